"""A saliency network: a backbone, and a light decoder that brings its deep features down to stride 4.

Lin et al., CVPR 2017 (feature pyramid: 1x1 convolutions to one width, added top down).
"""

from torch import Tensor, nn
from torch.nn import functional as F

from net.network import Backbone, Fixed, NetFacts, Network

_WIDTH = 64


class SalNet(Network):
    """One map per image. Of the backbone the stem's layers and all batch norms stay as they are: batches are small."""

    def __init__(self, backbone: Backbone, facts: NetFacts):
        super().__init__(backbone, facts)
        self.fix(Fixed(backbone.early_layers, norms=True))
        dims = (backbone.quarter_dim, *backbone.tap_dims)
        self.reduce = nn.ModuleList(nn.Conv2d(dim, _WIDTH, 1) for dim in dims)
        self.smooth = nn.ModuleList(nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1) for _ in dims[1:])
        self.out = nn.Conv2d(_WIDTH, 1, 1)

    def forward(self, img: Tensor) -> Tensor:
        """img (N,3,H,W) RGB in 0..255 -> logits (N,1,h,w), at stride 4."""
        low = self.backbone.quarter(self.normalised(img))
        *taps, x = (reduce(tap) for reduce, tap in zip(self.reduce, (low, *self.backbone.deeper(low)), strict=True))
        for tap, smooth in zip(reversed(taps), self.smooth, strict=True):
            x = F.relu(smooth(tap + F.interpolate(x, tap.shape[2:], mode="bilinear", align_corners=False)))
        return self.out(x)
