"""ResNet-50 as a CAM backbone: 2048 features at stride 16 (He et al., CVPR 2016; Ahn et al., CVPR 2019)."""

from torch import Tensor, nn
from torchvision.models import resnet50

from net.fixed import Fixed

FEATURE_DIM = 2048


class ResNet50(nn.Module):
    """torchvision's ResNet-50 without pooling and head.

    layout "cam": strides (2,2,2,1), undilated, as IRN trains it. layout "imagenet": layer4 dilated by 2 instead of
    strided, which leaves what the ImageNet classifier reads unchanged.
    """

    stride = 16
    tap_dims = (512, 1024, FEATURE_DIM)
    early_layers = ("conv1", "bn1")  # strides up to 2: not trained by IRN
    # IRN stops the gradient after layer2
    cam_fixed = Fixed(("conv1", "bn1", "layer1", "layer2"), statistics=True)

    def __init__(self, layout: str):
        super().__init__()
        net = resnet50(weights=None, replace_stride_with_dilation=[False, False, True])
        if layout == "cam":
            for block in net.layer4[1:]:
                block.conv2.dilation = block.conv2.padding = (1, 1)
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            self.add_module(name, getattr(net, name))

    def forward(self, x: Tensor) -> Tensor:
        return self.taps(x)[-1]

    def taps(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-> what layer2 (stride 8), layer3 (16) and layer4 (16) give."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        low = self.layer2(self.layer1(x))
        middle = self.layer3(low)
        return low, middle, self.layer4(middle)
