"""A network's faster twin for training: the same function, gradients and parameters."""

import copy
from itertools import chain

from torch import Tensor, nn
from torch.nn import functional as F

from net.fast import depthwise
from net.fast.folding import fold_norms
from net.network import Network


class FoldedConv2d(nn.Module):
    """A convolution, and the batch norm after it that is fixed: one convolution, of scaled weights.

    What the norm is to a convolution is taken once: on a GPU a step is bound by the number of its small operations.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d):
        super().__init__()
        self.conv, self.norm = conv, norm
        self._versions: list[int] = []

    def _scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """What the norm does; taken anew where its tensors were written to, by a state that is gone on from, say."""
        norm = self.norm
        mean, var, weight, bias = norm.running_mean, norm.running_var, norm.weight, norm.bias
        versions = [tensor._version for tensor in (mean, var, weight, bias)]
        if versions != self._versions:
            scale = weight * (var + norm.eps).rsqrt()
            self._versions, self._taken = versions, (scale.detach(), (bias - mean * scale).detach())
        return self._taken

    def forward(self, x: Tensor) -> Tensor:
        conv, (scale, shift) = self.conv, self._scale_and_shift()
        bias = shift if conv.bias is None else shift + conv.bias * scale
        weight, padding = conv.weight, conv.padding
        if hasattr(conv, "weight_and_padding"):
            weight, padding = conv.weight_and_padding(x.shape[2:])
        shape = weight * scale[:, None, None, None], bias, conv.stride, padding, conv.dilation
        if depthwise.pays(conv) and conv.bias is None:  # it gives a bias no gradient
            return depthwise.DepthwiseConv2d.apply(x, *shape)
        return F.conv2d(x, *shape, conv.groups)


def for_training(net: Network) -> Network:
    """A twin of net, which it shares its parameters and buffers with: what trains one trains the other.

    Where a batch norm is fixed, statistics and affine alike, it is folded into the convolution before it, which saves
    its passes over memory and what they keep for the backward pass. Move net to its device before; twin.train() is the
    caller's.
    """
    shared = {id(tensor): tensor for tensor in chain(net.parameters(), net.buffers())}
    twin = copy.deepcopy(net, shared)
    fold_norms(twin, lambda norm: not norm.training and not norm.weight.requires_grad, FoldedConv2d)
    return twin
