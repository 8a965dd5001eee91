"""Winograd's convolution is the convolution."""

import pytest
import torch
from torch import nn

from net.fast.winograd import WinogradConv2d


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (4, 4), (17, 8)])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_the_convolution(size, bias):
    torch.manual_seed(0)
    conv = nn.Conv2d(256, 320, 3, padding=1, bias=bias)
    x = torch.randn(2, 256, *size).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        want = conv(x)
        got = WinogradConv2d(conv)(x)
    assert got.shape == want.shape and got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got, want, rtol=0, atol=3e-5 * want.abs().max().item())


def test_only_where_it_fits_and_pays():
    assert WinogradConv2d.pays(nn.Conv2d(256, 256, 3, padding=1))
    other = [
        dict(kernel_size=1),
        dict(padding=0),
        dict(stride=2),
        dict(dilation=2),
        dict(groups=2),
        dict(in_channels=64),
    ]
    for change in other:
        arguments = {"in_channels": 256, "out_channels": 256, "kernel_size": 3, "padding": 1, **change}
        assert not WinogradConv2d.pays(nn.Conv2d(**arguments))
    assert not WinogradConv2d.pays(nn.Linear(3, 3))
