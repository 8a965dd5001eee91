"""A CAM network: a backbone without global pooling, then a 1x1 convolution; one forward gives logits and maps.

Zhou et al., CVPR 2016 (CAM); Ahn et al., CVPR 2019 (IRN's form).
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from net.fast.fused import FusedConvReLU6
from net.fast.winograd import WinogradConv2d
from net.network import NetFacts, Network


class CAMNet(Network):
    """classifier: 1x1 convolution D -> K on the backbone's last tap."""

    def __init__(self, backbone: nn.Module, facts: NetFacts):
        super().__init__(backbone, facts)
        self.classifier = nn.Conv2d(backbone.tap_dims[-1], facts.num_classes, 1, bias=facts.head == "softmax")

    def features(self, img: Tensor) -> Tensor:
        """img (N,3,H,W) RGB in 0..255, uint8 or float -> features (N,D,h,w)."""
        return self.backbone(self.normalised(img))

    def cam(self, img: Tensor, keys: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """img (N,3,H,W) RGB in 0..255 -> logits (N,K) and cam (N,K,h,w) before ReLU; logits are its spatial mean.

        With keys (P,), class ids, maps (N,P,h,w) of these classes only.
        """
        cam = self.classifier(self.features(img))
        return cam.mean((2, 3)), cam if keys is None else cam[:, keys]

    def logits(self, features: Tensor) -> Tensor:
        """features (N,D,h,w) -> logits (N,K): cam's logits without the maps (pooling and classifier commute)."""
        return self.classifier(features.mean((2, 3), keepdim=True)).flatten(1)

    def maps(self, features: Tensor, keys: Tensor) -> Tensor:
        """features (N,D,h,w), class ids keys (P,) -> their CAMs (N,P,h,w) before ReLU."""
        bias = None if self.classifier.bias is None else self.classifier.bias[keys]
        return nn.functional.conv2d(features, self.classifier.weight[keys], bias)

    def probabilities(self, logits: Tensor) -> Tensor:
        """logits (..., K) -> class probabilities (..., K) by the head's own rule."""
        return logits.sigmoid() if self.facts.head == "sigmoid" else logits.softmax(-1)

    def forward(self, img: Tensor) -> tuple[Tensor, Tensor]:
        return self.cam(img)


# (convolution, the batch norm right after it): names in torchvision's ResNet and DenseNet, in a Sequential, and in
# WideResNet-38 and its segmentation head
_RESNET38 = (
    ("conv_branch2a", "bn_branch2b1"),
    ("conv_branch2b1", "bn_branch2b2"),
    ("conv_fov", "bn_fov"),
    ("conv_fov2", "bn_fov2"),
)
_CONV_BN = (
    ("conv1", "bn1"),
    ("conv2", "bn2"),
    ("conv3", "bn3"),
    ("0", "1"),
    ("conv0", "norm0"),
    ("conv1", "norm2"),
    *_RESNET38,
)


def for_inference(net: nn.Module) -> nn.Module:
    """A copy of net in eval mode, faster on the device that it is on: batch norms folded into the convolutions before
    them, channels_last, and on a CPU wide 3x3 convolutions by Winograd's algorithm and ReLU6 within the convolutions.

    Same function up to rounding (about 1e-5 of the maximum); the gain: benchmarks/make_cam.py.
    """
    net = copy.deepcopy(net).eval().requires_grad_(False)
    for module in list(net.modules()):
        children = dict(module.named_children())
        for conv, norm in _CONV_BN:
            if isinstance(children.get(conv), nn.Conv2d) and isinstance(children.get(norm), nn.BatchNorm2d):
                children[conv] = fuse_conv_bn_eval(children[conv], children[norm])
                setattr(module, conv, children[conv])
                setattr(module, norm, nn.Identity())
        for name, child in children.items():
            if WinogradConv2d.pays(child):
                setattr(module, name, WinogradConv2d(child))
    for module in list(net.modules()):
        for name, child in module.named_children():
            if FusedConvReLU6.pays(child):
                setattr(module, name, FusedConvReLU6(child[0]))
    return net.to(memory_format=torch.channels_last)
