"""A light decoder that brings a backbone's deep features down to stride 4, and the saliency network that ends with it.

Lin et al., CVPR 2017 (feature pyramid: 1x1 convolutions to one width, added top down).
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from net.network import Backbone, Fixed, NetFacts, Network

WIDTH = 64


class TopDown(nn.Module):
    """The decoder's layers, of whoever inherits them."""

    def add_decoder(self, dims: Sequence[int]) -> None:
        """dims: channels of the features at stride 4 and of the taps."""
        self.reduce = nn.ModuleList(nn.Conv2d(dim, WIDTH, 1) for dim in dims)
        self.smooth = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in dims[1:])

    def decoded(self, features: Sequence[Tensor]) -> Tensor:
        """Features from stride 4 on, of dims -> (N,WIDTH,h,w) at stride 4."""
        *taps, x = (reduce(tap) for reduce, tap in zip(self.reduce, features, strict=True))
        for tap, smooth in zip(reversed(taps), self.smooth, strict=True):
            x = F.relu(smooth(tap + F.interpolate(x, tap.shape[2:], mode="bilinear", align_corners=False)))
        return x


class SalNet(TopDown, Network):
    """One map per image. Of the backbone the stem's layers and all batch norms stay as they are: batches are small."""

    def __init__(self, backbone: Backbone, facts: NetFacts):
        super().__init__(backbone, facts)
        self.fix(Fixed(backbone.early_layers, norms=True))
        self.add_decoder((backbone.quarter_dim, *backbone.tap_dims))
        self.out = nn.Conv2d(WIDTH, 1, 1)

    def forward(self, img: Tensor) -> Tensor:
        """img (N,3,H,W) RGB in 0..255 -> logits (N,1,h,w), at stride 4."""
        return self.out(self.decoded(self.backbone.all_taps(self.normalised(img))))
