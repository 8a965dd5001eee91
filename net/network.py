"""What every network here is: a backbone, what it says of itself, and what of it is not trained."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Fixed:
    """What of a backbone a training leaves as it is. layers: names of modules; statistics: the running statistics of
    all batch norms (in training mode too they are used, and not moved); norms: their weights and biases as well."""

    layers: tuple[str, ...] = ()
    statistics: bool = False
    norms: bool = False


class Backbone(nn.Module):
    """Maps normalised (N,3,H,W) to features (N,D,h,w), the last of taps(x).

    taps(x) -> features at about stride 8, deeper ones, and the last; tap_dims: their channels; stride: that of the
    last. quarter(x) -> features at stride 4, of quarter_dim channels; deeper(quarter(x)) are the taps. early_layers:
    the names of its layers at strides up to 2; cam_fixed: for the training of a CAM network; mean, std: of RGB in [0,
    1], which it is trained with; conv_norms: the names that a convolution and the batch norm right after it have in the
    module that holds both; wide: whether a training's time is in large convolutions, which a type of 16 bits speeds up
    (misc/run/device.py).
    """

    wide = False
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's

    def forward(self, x: Tensor) -> Tensor:
        return self.taps(x)[-1]

    def taps(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.deeper(self.quarter(x))

    def all_taps(self, x: Tensor) -> tuple[Tensor, ...]:
        """quarter(x), then the taps."""
        low = self.quarter(x)
        return low, *self.deeper(low)


@dataclass(frozen=True)
class NetFacts:
    """What a checkpoint must say of a network besides its weights.

    layout: "cam", the published CAM network; "imagenet", features exactly as the ImageNet classifier saw them, only
    denser, so that its fully connected layer is a CAM classifier without training. head: "sigmoid" (CAM network, multi-
    label, no bias), "softmax" (CAM network, one label, with bias), "seam", "affinity" and "saliency" (num_classes 0),
    or a segmentation head ("largefov", "deeplabv3", "objects"); "none" where a file holds a backbone alone.
    num_classes: without background. mean, std: of RGB in [0, 1]; where they are empty a Network puts in those of its
    backbone.
    """

    network: str
    num_classes: int
    layout: str = "cam"
    head: str = "sigmoid"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    class_names: tuple[str, ...] = ()


State = Mapping[str, Tensor]
Named = tuple[NetFacts, State]  # what a checkpoint is of, and its tensors under the names used here


class Network(nn.Module):
    """Input is RGB in 0..255, normalised by the facts' mean and std."""

    conv_norms: tuple[tuple[str, str], ...] = ()  # as a backbone's, of what stands on it

    def __init__(self, backbone: Backbone, facts: NetFacts):
        super().__init__()
        facts = replace(facts, mean=facts.mean or backbone.mean, std=facts.std or backbone.std)
        self.facts, self.backbone = facts, backbone
        self._fixed = Fixed()
        for name, value in (("mean", facts.mean), ("std", facts.std)):
            self.register_buffer(name, torch.tensor(value).view(1, 3, 1, 1) * 255, persistent=False)

    @property
    def wide(self) -> bool:
        return self.backbone.wide

    @property
    def device(self) -> torch.device:
        return self.mean.device

    def normalised(self, img: Tensor) -> Tensor:
        """img (N,3,H,W) RGB in 0..255, uint8 or float -> what the backbone reads."""
        x = (img.float() - self.mean) / self.std
        weight = next(self.backbone.parameters())
        last = weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last)
        return x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)

    def fix(self, what: Fixed) -> None:
        """Leaves this of the backbone as it is, from now on."""
        self._fixed = what
        for module in self._fixed_modules(what.norms):
            module.requires_grad_(False)
        self.train(self.training)

    def _fixed_modules(self, norms: bool) -> list[nn.Module]:
        """The fixed layers of the backbone, and with norms all its batch norms."""
        layers = [self.backbone.get_submodule(name) for name in self._fixed.layers]
        return layers + [m for m in self.backbone.modules() if norms and isinstance(m, nn.modules.batchnorm._BatchNorm)]

    def train(self, mode: bool = True) -> "Network":
        super().train(mode)
        for module in self._fixed_modules(self._fixed.statistics or self._fixed.norms):
            module.eval()
        return self


def parameter_groups(net: Network) -> tuple[list[nn.Parameter], ...]:
    """-> weights of the backbone's convolutions, their biases, weights of the new convolutions, their biases.

    SEAM, AffinityNet and DeepLab train them at 1, 2, 10 and 20 times the learning rate, biases without weight decay.
    As published, fixed layers are among them (an optimiser skips what has no gradient; requires_grad tells), and batch
    norms in none.
    """
    groups: tuple[list[nn.Parameter], ...] = ([], [], [], [])
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            first = 0 if name.startswith("backbone.") else 2
            groups[first].append(module.weight)
            if module.bias is not None:
                groups[first + 1].append(module.bias)
    return groups


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(N,C,h,w) -> (N,C,*size), bilinear, corners on corners. C may be 0."""
    if x.shape[2:] == size:
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=True) if x.shape[1] else x.new_empty(len(x), 0, *size)
