"""WideResNet-38 as a backbone: 4096 features at stride 8, with taps for SEAM and AffinityNet.

Wu et al., Wider or Deeper, 2016 (model A1); dilated as in Ahn & Kwak, CVPR 2018. Layers bear the published names, so
that `b4_2.conv_branch2a.weight` here is that of the PyTorch checkpoints.
"""

import re
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from net.backbone import Source
from net.network import Backbone, Fixed, Named, NetFacts, State

Ints = Sequence[int]


class ResBlock(nn.Module):
    """BN-ReLU-convolution for each of widths, then the shortcut added.

    The shortcut is the input, or where the shape changes a 1x1 convolution of the activated input. stride: of the first
    convolution; dropout: of whole channels, before every convolution but the first.
    """

    def __init__(self, c_in: int, widths: Ints, kernels: Ints, dilations: Ints, stride: int = 1, dropout: float = 0.0):
        super().__init__()
        self.branch = ("2a", "2b1", "2b2")[: len(widths)]
        c, s = c_in, stride
        for name, width, kernel, dilation in zip(self.branch, widths, kernels, dilations, strict=True):
            self.add_module(f"bn_branch{name}", nn.BatchNorm2d(c))
            conv = nn.Conv2d(c, width, kernel, s, kernel // 2 * dilation, dilation, bias=False)
            self.add_module(f"conv_branch{name}", conv)
            c, s = width, 1
        same = c == c_in and stride == 1
        self.conv_branch1 = None if same else nn.Conv2d(c_in, c, 1, stride, bias=False)
        self.dropout = nn.Dropout2d(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.with_activation(x)[0]

    def with_activation(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """-> the block's output, and its input after the first BN and ReLU."""
        activated = F.relu(self.bn_branch2a(x), inplace=True)
        y = self.conv_branch2a(activated)
        for name in self.branch[1:]:
            y = F.relu(getattr(self, f"bn_branch{name}")(y), inplace=True)
            y = getattr(self, f"conv_branch{name}")(self.dropout(y))
        shortcut = x if self.conv_branch1 is None else self.conv_branch1(activated)
        return shortcut + y, activated


class ResNet38(Backbone):
    """normalised (N,3,H,W) -> (N,4096,ceil(H/8),ceil(W/8))."""

    stride = 8
    quarter_dim = 256
    tap_dims = (512, 1024, 4096)
    early_layers = ("conv1a", "b2", "b2_1", "b2_2")  # not trained by SEAM and AffinityNet
    cam_fixed = Fixed(early_layers, norms=True)
    wide = True
    conv_norms = (("conv_branch2a", "bn_branch2b1"), ("conv_branch2b1", "bn_branch2b2"))

    def __init__(self):
        super().__init__()
        self.conv1a = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        for stage, c_in, c_out, repeats in ((2, 64, 128, 3), (3, 128, 256, 3), (4, 256, 512, 6)):
            self._add_stage(stage, c_in, (c_out, c_out), repeats, stride=2, dilations=(1, 1))
        # b5 would have a stride: its first convolution sees the grid as before, all later ones a denser one
        self._add_stage(5, 512, (512, 1024), 3, stride=1, dilations=(1, 2))
        self.b6 = ResBlock(1024, (512, 1024, 2048), (1, 3, 1), (1, 4, 1), dropout=0.3)
        self.b7 = ResBlock(2048, (1024, 2048, 4096), (1, 3, 1), (1, 4, 1), dropout=0.5)
        self.bn7 = nn.BatchNorm2d(4096)

    def _add_stage(self, stage: int, c_in: int, widths: Ints, repeats: int, stride: int, dilations: Ints) -> None:
        self.add_module(f"b{stage}", ResBlock(c_in, widths, (3, 3), dilations, stride))
        for i in range(1, repeats):
            self.add_module(f"b{stage}_{i}", ResBlock(widths[1], widths, (3, 3), (dilations[1],) * 2))

    def quarter(self, x: Tensor) -> Tensor:
        """-> what b3_2 gives."""
        return self._blocks(self.conv1a(x), "b2", "b3")

    def _blocks(self, x: Tensor, *stages: str) -> Tensor:
        for name, block in self.named_children():
            if name[:2] in stages:
                x = block(x)
        return x

    def deeper(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-> conv4 (N,512,h,w), the activated input of b5; conv5 (N,1024,h,w), that of b6; conv6 (N,4096,h,w)."""
        x = self._blocks(x, "b4")
        x, conv4 = self.b5.with_activation(x)
        x, conv5 = self.b6.with_activation(self.b5_2(self.b5_1(x)))
        return conv4, conv5, F.relu(self.bn7(self.b7(x)), inplace=True)


_LAYER = re.compile(r"(?:arg|aux):(res|bn)(\d)(?:a|b(\d+))_(branch\w+?)_(weight|gamma|beta|moving_mean|moving_var)")
_LAST_NORM = re.compile(r"(?:arg|aux):bn7_(gamma|beta|moving_mean|moving_var)")
_TENSOR = dict(weight="weight", gamma="weight", beta="bias", moving_mean="running_mean", moving_var="running_var")


def params_key(name: str) -> str | None:
    """`arg:res2b1_branch2a_weight` -> `b2_1.conv_branch2a.weight`; None for the classifier, which ResNet38 lacks.

    Raises ValueError for a name that no ResNet-38 has.
    """
    if name == "arg:conv1a_weight":
        return "conv1a.weight"
    if name.startswith("arg:linear1000_"):
        return None
    if last := _LAST_NORM.fullmatch(name):
        return f"bn7.{_TENSOR[last[1]]}"
    if layer := _LAYER.fullmatch(name):
        kind, stage, block, branch, tensor = layer.groups()
        return f"b{stage}{f'_{block}' * bool(block)}.{'conv' if kind == 'res' else 'bn'}_{branch}.{_TENSOR[tensor]}"
    raise ValueError(f"{name} is no tensor of ResNet-38")


def published(state: State) -> Named | None:
    """MXNet's published file, its classifier left out; a SEAM or HFPL checkpoint; a published AffinityNet, or final
    network; None if it is none of these. Raises ValueError for a name of another network in MXNet's file."""
    if any(key.startswith("arg:") for key in state):
        renamed = {f"backbone.{key}": v for name, v in state.items() if (key := params_key(name)) is not None}
        return NetFacts("resnet38", 0, head="none"), renamed
    if {"conv_fov.weight", "cls_conv.weight"} <= state.keys():
        facts = NetFacts("resnet38", len(state["cls_conv.weight"]) - 1, head="largefov")
        return facts, {key if key.startswith("backbone.") else f"head.{key}": v for key, v in state.items()}
    for head, layers in _HEADS.items():
        if {f"{layer}weight" for layer in layers} <= state.keys():
            num_classes = len(state["fc8.weight"]) - 1 if head == "seam" else 0
            renamed = {key if key.startswith(layers) else f"backbone.{key}": v for key, v in state.items()}
            return NetFacts("resnet38", num_classes, head=head), renamed
    return None


_HEADS = {"seam": ("fc8.", "f8_3.", "f8_4.", "f9."), "affinity": ("f8_3.", "f8_4.", "f8_5.", "f9.")}
_FILE = "ilsvrc-cls_rna-a1_cls1000_ep-0001.params (Model A1 of https://github.com/itijyou/ademxapp) or a .pth"
BACKBONES = {"resnet38": Source(lambda facts: ResNet38(), published, _FILE)}
