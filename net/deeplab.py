"""Segmentation networks: DeepLab's heads, and one that starts from a classifier and a saliency network.

Chen et al., ICLR 2015 (LargeFOV), arXiv 1706.05587 (v3); Lin et al., CVPR 2017 (top down).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

from net.network import Backbone, Fixed, NetFacts, Network, resized
from net.saliency import WIDTH, SalNet, TopDown

_PIXEL = 0.5  # weight of what a pixel looks like, beside what the image has
_DECODER = 0.6  # share of the decoder's opinion in what is an object
_ALPHA, _POWER = 4.0, 2.0  # background is (1 - object) to alpha; all scores to power
_EPS = 1e-4
_GROUND = 0.05  # weight of ground beside objects in the mean feature of an image
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


class ObjectsAndClasses(TopDown):
    """All taps -> scores (N,C,h,w) at stride 4, for a softmax. Objects are what a decoder finds, and the CAMs of the
    classes that the image is likely to have, by the mean feature of the decoder's objects. Which object it is, a linear
    classifier of the last tap tells, and what the image has.

    It needs little training where its parts have learned before: the classifiers from image labels, the decoder as that
    of a saliency network.
    """

    def __init__(self, dims: Sequence[int], num_channels: int):
        super().__init__()
        self.add_decoder(dims)
        self.out = nn.Conv2d(WIDTH, 1, 1)
        self.classifier = nn.Conv2d(dims[-1], num_channels - 1, 1, bias=False)
        self.image = nn.Conv2d(dims[-1], num_channels - 1, 1)
        nn.init.normal_(self.classifier.weight, std=0.01)
        for parameter in self.image.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        ground = -self.out(self.decoded(features))
        present = self.image(_mean_of_objects(features[-1], ground))
        pixels, size = self.classifier(features[-1]), ground.shape[2:]
        classes = resized(_PIXEL * pixels + F.logsigmoid(present), size).log_softmax(1)
        likely = present.sigmoid()
        cams = _stretched(pixels.relu()) * likely / likely.amax(1, keepdim=True).clamp(min=_EPS)
        objects = _DECODER * torch.sigmoid(-ground) + (1 - _DECODER) * resized(cams.amax(1, keepdim=True), size)
        objects = objects.float().clamp(_EPS, 1 - _EPS)
        return _POWER * torch.cat([_ALPHA * torch.log1p(-objects), objects.log() + classes], 1)

    def mean_feature(self, features: Sequence[Tensor]) -> Tensor:
        """All taps -> (N,D): what self.image sees of an image."""
        return _mean_of_objects(features[-1], -self.out(self.decoded(features)))[:, :, 0, 0]

    @torch.no_grad()
    def know_classes(self, rows: Tensor, image: tuple[Tensor, Tensor]) -> None:
        """rows (K,D): of a classifier of the classes; image: weights (K,D) and biases (K,) of one that tells which are
        in an image."""
        self.classifier.weight[:, :, 0, 0] = rows
        self.image.weight[:, :, 0, 0], self.image.bias[:] = image

    @torch.no_grad()
    def know_objects(self, saliency: SalNet | None) -> None:
        """A saliency network that is None, or does not fit, leaves the decoder as it is."""
        if saliency is not None and [r.weight.shape for r in saliency.reduce] == [r.weight.shape for r in self.reduce]:
            for name in ("reduce", "smooth", "out"):
                getattr(self, name).load_state_dict(getattr(saliency, name).state_dict())


def _stretched(maps: Tensor) -> Tensor:
    """(N,K,h,w), each map from its lowest to its highest value to 0..1."""
    maps = maps.float()  # what is small is 0 in half precision
    lowest, highest = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - lowest) / (highest - lowest).clamp(min=1e-8)


def _mean_of_objects(feature: Tensor, ground: Tensor) -> Tensor:
    """feature (N,D,h,w), logits of the ground (N,1,H,W) -> (N,D,1,1)."""
    cell = round(ground.shape[2] / feature.shape[2])
    objects = F.avg_pool2d(torch.sigmoid(-ground.detach()), max(1, cell), ceil_mode=True)
    weight = _GROUND + (1 - _GROUND) * resized(objects, feature.shape[2:])
    return (feature * weight).sum((2, 3), keepdim=True) / weight.sum((2, 3), keepdim=True)


HEADS = {
    "largefov": lambda dims, channels, d: LargeFOV(dims[-1], channels, d),
    "deeplabv3": lambda dims, channels, d: DeepLabHead(dims[-1], channels, (d, 2 * d, 3 * d)),
    "objects": lambda dims, channels, d: ObjectsAndClasses(dims, channels),
}


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
        dims = (backbone.quarter_dim, *backbone.tap_dims)
        self.head = HEADS[facts.head](dims, facts.num_classes + 1, dilation)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = norm_momentum

    def forward(self, img: Tensor) -> Tensor:
        """img (N,3,H,W) RGB in 0..255 -> logits (N,K+1,H,W)."""
        return resized(self.grid(img), img.shape[2:])

    def grid(self, img: Tensor) -> Tensor:
        """As forward, but (N,K+1,h,w) at the head's stride: that of the backbone, or 4."""
        taps = self.backbone.all_taps(self.normalised(img))
        return self.head(taps if isinstance(self.head, TopDown) else taps[-1])
