"""AffinityNet: embeddings whose distances say which neighbouring pixels belong to one class. Ahn & Kwak, CVPR 2018.

Which pixels make pairs, and what is done with the affinities: pgt.affinity.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from net.network import Backbone, Fixed, NetFacts, Network, resized

_STRIDE = 8  # of the backbones' first tap


class AffinityNet(Network):
    """Three 1x1 convolutions with ELU, one per tap of the backbone, and one over them all.

    On net.resnet38 as published; other backbones' deeper taps are brought to the grid of the first, at stride 8.
    """

    def __init__(self, backbone: Backbone, facts: NetFacts, fix_norms: bool = True):
        super().__init__(backbone, facts)
        self.fix(Fixed(backbone.early_layers, norms=fix_norms))
        low, middle, last = backbone.tap_dims
        self.f8_3 = nn.Conv2d(low, 64, 1, bias=False)
        self.f8_4 = nn.Conv2d(middle, 128, 1, bias=False)
        self.f8_5 = nn.Conv2d(last, 256, 1, bias=False)
        self.f9 = nn.Conv2d(64 + 128 + 256, 448, 1, bias=False)
        for layer in (self.f8_3, self.f8_4, self.f8_5):
            nn.init.kaiming_normal_(layer.weight)
        nn.init.xavier_uniform_(self.f9.weight, gain=4)

    def forward(self, img: Tensor) -> Tensor:
        """img (N,3,H,W) RGB in 0..255 -> embeddings (N,448,ceil(H/8),ceil(W/8)), ready for affinity().

        Sides that are no multiple of 8 are filled up with the mean colour, as published.
        """
        x = self.normalised(img)
        taps = self.backbone.taps(F.pad(x, (0, -x.shape[3] % _STRIDE, 0, -x.shape[2] % _STRIDE)))
        size = taps[0].shape[2:]
        layers = (self.f8_3, self.f8_4, self.f8_5)
        reduced = [resized(F.elu(layer(tap)), size) for layer, tap in zip(layers, taps, strict=True)]
        return F.elu(self.f9(torch.cat(reduced, 1)))


def affinity(features: Tensor, ind_from: Tensor, ind_to: Tensor) -> Tensor:
    """features (N,C,h,w), flat pixel ids ind_from (M,) and ind_to (P,M) -> (N,P,M) in (0, 1].

    exp(-mean over channels of |f_from - f_to|) (Ahn & Kwak, section 3.2; the mean instead of the sum, as in their
    code). One row of ind_to at a time: all differences together would take P times the memory of the features.
    """
    f, rows = features.flatten(2), ind_to.to(features.device)
    f_from = f.index_select(2, ind_from.to(features.device))
    distances = [(f.index_select(2, row) - f_from).abs().mean(1) for row in rows]
    return torch.stack(distances, 1).neg().exp() if distances else f.new_zeros(len(f), *ind_to.shape)
