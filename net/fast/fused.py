"""A convolution and the activation after it in one pass over memory, where PyTorch's CPU library (oneDNN) can do it."""

import torch
from torch import Tensor, nn

# An operator that torch.compile calls too; absent where PyTorch comes without oneDNN (macOS on ARM, say).
_POINTWISE = getattr(torch.ops.mkldnn, "_convolution_pointwise", None) if torch.backends.mkldnn.is_available() else None


class FusedConvReLU6(nn.Module):
    """Sequential(convolution, nothing, ReLU6): same values, without writing and reading the result in between.

    For inference on a CPU.
    """

    def __init__(self, module: nn.Sequential):
        super().__init__()
        self.conv = module[0]

    @staticmethod
    def pays(module: nn.Module) -> bool:
        """Whether module is Sequential(convolution on a CPU, folded batch norm, ReLU6), and PyTorch can do it."""
        return (
            _POINTWISE is not None
            and isinstance(module, nn.Sequential)
            and [type(m) for m in module][1:] == [nn.Identity, nn.ReLU6]
            and isinstance(module[0], nn.Conv2d)
            and module[0].weight.is_cpu
        )

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        weight, padding = conv.weight, conv.padding
        if hasattr(conv, "weight_and_padding"):
            weight, padding = conv.weight_and_padding(x.shape[2:])
        shape = (padding, conv.stride, conv.dilation, conv.groups)
        return _POINTWISE(x, weight, conv.bias, *shape, "hardtanh", [0.0, 6.0], "")
