"""Depthwise convolution whose backward pass is fast on a CPU too.

PyTorch's CPU library (oneDNN) is quick in the forward pass, but its gradients of 5x5 and of dilated kernels take ten
times as long. Here the gradient of the input is a forward convolution where the stride is 1, and that of the weight a
numba kernel, which takes channels as lanes.
"""

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

Pair = tuple[int, int]
_LANES = 64  # channels that are summed at a time: their sums fit the first cache


def pays(conv: nn.Conv2d) -> bool:
    """Whether conv is depthwise, float32 and on a CPU."""
    weight = conv.weight
    return weight.is_cpu and weight.dtype == torch.float32 and conv.groups == len(weight) > 1 and weight.shape[1] == 1


class DepthwiseConv2d(torch.autograd.Function):
    """x (N,C,H,W), weight (C,1,k,l), bias (C,) -> F.conv2d(x, weight, bias, stride, padding, dilation, C).

    No gradient goes to the bias.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor, stride: Pair, padding: Pair, dilation: Pair
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.shape = stride, padding, dilation
        return F.conv2d(x, weight, bias, stride, padding, dilation, len(weight))

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wanted_x, wanted_weight = ctx.needs_input_grad[:2]
        grad = grad.contiguous(memory_format=torch.channels_last)
        grad_x = _grad_of_input(grad, x, weight, *ctx.shape) if wanted_x else None
        grad_weight = _grad_of_weight(grad, x, weight, *ctx.shape) if wanted_weight else None
        return grad_x, grad_weight, None, None, None, None


def _grad_of_input(grad: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    if tuple(stride) != (1, 1) or any(p > r for p, r in zip(padding, reach, strict=True)):
        return torch.nn.grad.conv2d_input(x.shape, weight, grad, stride, padding, dilation, len(weight))
    turned = weight.flip(2, 3).contiguous(memory_format=torch.channels_last)
    padding = [r - p for r, p in zip(reach, padding, strict=True)]
    return F.conv2d(grad, turned, None, 1, padding, dilation, len(weight))


def _grad_of_weight(grad: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    out = np.empty((*weight.shape[2:], len(weight)), np.float32)
    planes = (t.detach().permute(0, 2, 3, 1).contiguous().numpy() for t in (x, grad))
    _sum_products(*planes, *(np.array(pair) for pair in (stride, padding, dilation)), out)
    return torch.from_numpy(out).permute(2, 0, 1)[:, None]


@njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")
def _sum_products(
    x: np.ndarray, grad: np.ndarray, stride: np.ndarray, padding: np.ndarray, dilation: np.ndarray, out: np.ndarray
) -> None:
    """x (N,H,W,C), grad (N,h,w,C) -> out (k,l,C)."""
    height, width = x.shape[1:3]
    rows, columns, channels = out.shape
    sums = np.empty((rows, columns, _LANES), np.float32)
    for first in range(0, channels, _LANES):
        lanes = min(_LANES, channels - first)
        sums[:] = 0
        for n in range(grad.shape[0]):
            for y in range(grad.shape[1]):
                for i in range(rows):
                    at_y = y * stride[0] + i * dilation[0] - padding[0]
                    if at_y < 0 or at_y >= height:
                        continue
                    for z in range(grad.shape[2]):
                        for j in range(columns):
                            at_x = z * stride[1] + j * dilation[1] - padding[1]
                            if at_x < 0 or at_x >= width:
                                continue
                            for c in range(lanes):
                                sums[i, j, c] += x[n, at_y, at_x, first + c] * grad[n, y, z, first + c]
        out[:, :, first : first + lanes] = sums[:, :, :lanes]
