"""DeepLab: semantic segmentation by dilated convolutions. Chen et al., ICLR 2015 (LargeFOV), arXiv 1706.05587 (v3)."""

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

from net.network import Backbone, Fixed, NetFacts, Network, resized

_FIELD = 96  # pixels of the image between the taps of a dilated kernel, at every stride


class LargeFOV(nn.Module):
    """features (N,D,h,w) -> logits (N,C,h,w) by a 3x3 convolution that sees far, and two 1x1 (DeepLab v1)."""

    def __init__(self, feature_dim: int, num_channels: int, dilation: int):
        super().__init__()
        self.conv_fov = nn.Conv2d(feature_dim, 512, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn_fov = nn.BatchNorm2d(512)
        self.conv_fov2 = nn.Conv2d(512, 512, 1, bias=False)
        self.bn_fov2 = nn.BatchNorm2d(512)
        self.dropout = nn.Dropout(0.5)
        self.cls_conv = nn.Conv2d(512, num_channels, 1)
        for conv in (self.conv_fov, self.conv_fov2, self.cls_conv):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn_fov(self.conv_fov(x)), inplace=True)
        x = F.relu(self.bn_fov2(self.conv_fov2(x)), inplace=True)
        return self.cls_conv(self.dropout(x))


HEADS = {"largefov": LargeFOV, "deeplabv3": lambda dim, channels, d: DeepLabHead(dim, channels, (d, 2 * d, 3 * d))}


class SegNet(Network):
    """A backbone and the head that facts.head names, of facts.num_classes + 1 channels (0 is background).

    "largefov" on net.resnet38 is the published final network: everything is trained, batch norms on the batch's own
    statistics. norm_momentum: the running statistics move by this share per step; at the published 3e-4 they need some
    10,000 steps to be of use, so a shorter training needs more, or fix_norms for the backbone's. "deeplabv3" is
    torchvision's head, which cannot be trained with a batch of one.
    """

    conv_norms = (("conv_fov", "bn_fov"), ("conv_fov2", "bn_fov2"), ("0", "1"))

    def __init__(self, backbone: Backbone, facts: NetFacts, fix_norms: bool = False, norm_momentum: float = 3e-4):
        if facts.head not in HEADS:
            raise ValueError(f"unknown segmentation head {facts.head!r}: choose one of {', '.join(HEADS)}")
        super().__init__(backbone, facts)
        self.fix(Fixed(norms=fix_norms))
        dilation = max(1, _FIELD // backbone.stride)
        self.head = HEADS[facts.head](backbone.tap_dims[-1], facts.num_classes + 1, dilation)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = norm_momentum

    def forward(self, img: Tensor) -> Tensor:
        """img (N,3,H,W) RGB in 0..255 -> logits (N,K+1,H,W)."""
        return resized(self.grid(img), img.shape[2:])

    def grid(self, img: Tensor) -> Tensor:
        """As forward, but (N,K+1,h,w) at the backbone's stride."""
        return self.head(self.backbone(self.normalised(img)))
