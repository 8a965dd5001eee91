"""Which batch norms go into the convolutions before them: those that the backbone names, and no others."""

import pytest
import torch
from torch import nn

from net import CAMNet, NetFacts, for_inference
from net.fast.for_training import FoldedConv2d, for_training
from net.network import Fixed


class Tiny(nn.Module):
    """conv, which has a bias, and norm are a pair; "0" and "1", a pair elsewhere, are none: their order is another."""

    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    tap_dims = (4,)
    conv_norms = (("conv", "norm"),)

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.last = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
        for norm in (self.norm, self.last[1]):
            norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        return self.last[0](self.last[1](self.norm(self.conv(x)).relu()))


@pytest.mark.parametrize("fast", [for_inference, for_training])
def test_the_pairs_are_those_of_the_backbone(fast):
    torch.manual_seed(0)
    network = CAMNet(Tiny(), NetFacts("tiny", 2)).eval()
    network.fix(Fixed(norms=True))
    twin = fast(network)
    assert isinstance(twin.backbone.norm, nn.Identity) and isinstance(twin.backbone.last[1], nn.BatchNorm2d)
    assert isinstance(twin.backbone.conv, FoldedConv2d) == (fast is for_training)
    assert isinstance(network.backbone.norm, nn.BatchNorm2d)
    img = torch.randint(0, 256, (1, 3, 9, 8), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(twin(img)[1], network(img)[1], rtol=1e-4, atol=1e-5)


def test_mean_and_std_are_the_backbones_where_the_facts_have_none():
    facts = CAMNet(Tiny(), NetFacts("tiny", 2)).facts
    assert (facts.mean, facts.std) == (Tiny.mean, Tiny.std)
    own = CAMNet(Tiny(), NetFacts("tiny", 2, mean=(0.5,) * 3))
    assert (own.facts.mean, own.facts.std) == ((0.5,) * 3, Tiny.std)
    assert own.mean.flatten().tolist() == [127.5] * 3
