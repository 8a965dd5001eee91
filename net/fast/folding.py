"""Batch norms that go into the convolutions before them."""

from collections.abc import Callable

from torch import nn

from net.network import Network


def fold_norms(
    net: Network, fits: Callable[[nn.BatchNorm2d], bool], folded: Callable[[nn.Conv2d, nn.BatchNorm2d], nn.Module]
) -> None:
    """In place, for each of net's conv_norms whose norm fits: folded(conv, norm) instead of the convolution, and
    nothing instead of the batch norm."""
    for module in list(net.modules()):
        for names in (*net.backbone.conv_norms, *net.conv_norms):
            conv, norm = (getattr(module, name, None) for name in names)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and fits(norm):
                setattr(module, names[0], folded(conv, norm))
                setattr(module, names[1], nn.Identity())
