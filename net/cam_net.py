"""A CAM network: a backbone without global pooling, then a 1x1 convolution; one forward gives logits and maps.

Zhou et al., CVPR 2016 (CAM); Ahn et al., CVPR 2019 (IRN's form).
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from net.fused import FusedConvReLU6
from net.winograd import WinogradConv2d

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class NetFacts:
    """What a checkpoint must say of a network besides its weights.

    layout: "cam", the published CAM network, to be trained with its own head; "imagenet", features exactly as the
    ImageNet classifier saw them, only denser, so that its fully connected layer is a CAM classifier without training.
    head: "sigmoid" (multi-label, no bias) or "softmax" (one label, with bias). mean, std: of RGB in [0, 1].
    """

    network: str
    num_classes: int
    layout: str = "cam"
    head: str = "sigmoid"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    class_names: tuple[str, ...] = ()


class CAMNet(nn.Module):
    """backbone: normalised (N,3,H,W) -> (N,D,h,w); classifier: 1x1 convolution D -> K."""

    def __init__(self, backbone: nn.Module, feature_dim: int, facts: NetFacts):
        super().__init__()
        self.facts = facts
        self.backbone = backbone
        self.classifier = nn.Conv2d(feature_dim, facts.num_classes, 1, bias=facts.head == "softmax")
        for name, value in (("mean", facts.mean), ("std", facts.std)):
            self.register_buffer(name, torch.tensor(value).view(1, 3, 1, 1) * 255, persistent=False)

    @property
    def device(self) -> torch.device:
        return self.classifier.weight.device

    def features(self, img: Tensor) -> Tensor:
        """img (N,3,H,W) RGB in 0..255, uint8 or float -> features (N,D,h,w)."""
        img = (img.float() - self.mean) / self.std
        return self.backbone(img.contiguous(memory_format=memory_format_of(self.classifier.weight)))

    def cam(self, img: Tensor) -> tuple[Tensor, Tensor]:
        """img (N,3,H,W) RGB in 0..255 -> logits (N,K) and cam (N,K,h,w) before ReLU; logits are its spatial mean."""
        cam = self.classifier(self.features(img))
        return cam.mean((2, 3)), cam

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


def memory_format_of(weight: Tensor) -> torch.memory_format:
    """The format that a network's input should have to match its convolutions."""
    last = weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


# (convolution, the batch norm right after it): names in torchvision's ResNet and DenseNet, and in a Sequential
_CONV_BN = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1"), ("conv0", "norm0"), ("conv1", "norm2"))


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
