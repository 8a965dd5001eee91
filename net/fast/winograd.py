"""3x3 convolution by Winograd's minimal filtering F(4x4, 3x3): a quarter of the multiplications, as matrix products.

Lavin & Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016, section 4.3. GPU libraries choose it by
themselves; PyTorch on a CPU does not.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_TILE = 4  # outputs per side; the tile that they need has 6
_MIN_CHANNELS = 256  # measured at 38x57: 0.55 of the convolution's time at 512 channels, 0.75 at 256, 1.1 at 128
_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_FILTER = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


def _two_sided(matrix: Sequence[Sequence[float]]) -> Tensor:
    """M -> the matrix that takes a flattened tile X to flattened M X M^T."""
    m = torch.tensor(matrix, dtype=torch.float64)
    return torch.kron(m, m)


class WinogradConv2d(nn.Module):
    """Equal to the 3x3 convolution that it is made of (stride 1, padding 1, no groups) up to about 1e-5 of the maximum.

    For inference: the transformed weights (36,C,K) are made once. (N,C,H,W) -> (N,K,H,W), channels_last.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        weight = _two_sided(_FILTER) @ conv.weight.detach().double().flatten(2).permute(2, 1, 0).flatten(1)
        self.register_buffer("weight", weight.float().view(36, conv.in_channels, conv.out_channels), persistent=False)
        self.register_buffer("to_tiles", _two_sided(_INPUT).float(), persistent=False)
        self.register_buffer("from_tiles", _two_sided(_OUTPUT).float(), persistent=False)
        self.register_buffer("bias", conv.bias, persistent=False)

    @staticmethod
    def pays(module: nn.Module) -> bool:
        """Whether module is such a convolution on a CPU, wide enough for the products to outweigh the transforms."""
        if not isinstance(module, nn.Conv2d) or not module.weight.is_cpu:
            return False
        shape = (module.kernel_size, module.stride, module.padding, module.dilation, module.groups)
        wide = min(module.in_channels, module.out_channels) >= _MIN_CHANNELS
        return wide and shape == ((3, 3), (1, 1), (1, 1), (1, 1), 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        rows, columns = -(-height // _TILE), -(-width // _TILE)
        padded = x.new_zeros(n, rows * _TILE + 2, columns * _TILE + 2, c)
        padded[:, 1 : height + 1, 1 : width + 1] = x.permute(0, 2, 3, 1)
        s = padded.stride()
        tiles = padded.as_strided((6, 6, n, rows, columns, c), (s[1], s[2], s[0], _TILE * s[1], _TILE * s[2], s[3]))
        tiles = (self.to_tiles @ tiles.reshape(36, -1)).view(36, -1, c)
        out = self.from_tiles @ torch.bmm(tiles, self.weight).view(36, -1)
        out = out.view(_TILE, _TILE, n, rows, columns, -1).permute(2, 3, 0, 4, 1, 5)
        out = out.reshape(n, rows * _TILE, columns * _TILE, -1)[:, :height, :width].contiguous()
        return (out if self.bias is None else out.add_(self.bias)).permute(0, 3, 1, 2)
