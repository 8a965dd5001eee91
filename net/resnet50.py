"""ResNet-50 as a CAM backbone: 2048 features at stride 16 (He et al., CVPR 2016; Ahn et al., CVPR 2019)."""

from torch import Tensor
from torchvision.models import ResNet50_Weights, resnet50

from net.backbone import Source, Torchvision, imagenet_classifier, published_cam
from net.network import Backbone, Fixed, Named, State


class ResNet50(Backbone):
    """torchvision's ResNet-50 without pooling and head.

    layout "cam": strides (2,2,2,1), undilated, as IRN trains it. layout "imagenet": layer4 dilated by 2 instead of
    strided, which leaves what the ImageNet classifier reads unchanged.
    """

    stride = 16
    quarter_dim = 256
    tap_dims = (512, 1024, 2048)
    early_layers = ("conv1", "bn1")  # not trained by IRN
    cam_fixed = Fixed((*early_layers, "layer1", "layer2"), statistics=True)  # IRN stops the gradient after layer2
    conv_norms = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1"))

    def __init__(self, layout: str):
        super().__init__()
        net = resnet50(weights=None, replace_stride_with_dilation=[False, False, True])
        if layout == "cam":
            for block in net.layer4[1:]:
                block.conv2.dilation = block.conv2.padding = (1, 1)
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            self.add_module(name, getattr(net, name))

    def quarter(self, x: Tensor) -> Tensor:
        """-> what layer1 gives."""
        return self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x)))))

    def deeper(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-> what layer2 (stride 8), layer3 (16) and layer4 (16) give."""
        low = self.layer2(x)
        middle = self.layer3(low)
        return low, middle, self.layer4(middle)


def published(state: State) -> Named | None:
    """The state dict of IRN's or generatePGT's CAM network, or of torchvision's classifier; None if it is neither."""
    classifier = imagenet_classifier(state, "resnet50", "layer4.2.conv3.weight", "fc.")
    return classifier or published_cam(state, "resnet50", "resnet50.")


_WEIGHTS = Torchvision(ResNet50_Weights.IMAGENET1K_V1.url)
BACKBONES = {"resnet50": Source(lambda facts: ResNet50(facts.layout), published, _WEIGHTS)}
