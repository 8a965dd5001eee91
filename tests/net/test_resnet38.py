"""WideResNet-38 against the published one."""

import numpy as np
import pytest
import torch
from torch import nn

from net.resnet38 import ResNet38
from net.seam import published


@pytest.fixture(scope="module")
def seam(golden):
    return golden("hfpl_resnet38_seam")


@pytest.fixture(scope="module")
def network(seam, golden):
    """With the weights of the golden file, loaded strictly."""
    state = {k: torch.from_numpy(np.array(v)) for k, v in golden.weights(seam).items()}
    _, state = published(state)
    made = ResNet38()
    made.load_state_dict({k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")})
    return made.eval()


def test_names_shapes_and_order_are_the_published_ones(seam):
    with torch.device("meta"):
        made = ResNet38()
    here = [f"{k}|{','.join(map(str, v.shape))}" for k, v in made.state_dict().items()]
    head = ("fc8", "f8_3", "f8_4", "f9")
    assert here == [str(s).rsplit("|", 2)[0] for s in seam["state_dict_spec"] if not str(s).startswith(head)]


def test_taps_golden(seam, network):
    name = "chelsea_141x187_to65x97"
    x = torch.from_numpy(seam[f"{name}.input_u8"]).permute(2, 0, 1)[None] / 255
    x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.inference_mode():
        taps = network.taps(x)
        torch.testing.assert_close(network(x), taps[-1], rtol=0, atol=0)
    assert tuple(tap.shape[1] for tap in taps) == network.tap_dims
    for layer, tap in zip((4, 5, 6), taps, strict=True):
        want = seam[f"{name}.conv{layer}_every32"]
        np.testing.assert_allclose(tap[:, ::32], want, rtol=0, atol=1e-4 * want.max())


@pytest.mark.parametrize("size", [(8, 8), (9, 17), (23, 32)])
def test_every_tap_is_at_stride_8_rounded_up(network, size):
    with torch.inference_mode():
        taps = network.taps(torch.zeros(1, 3, *size))
    assert {tap.shape[2:] for tap in taps} == {tuple(-(-n // network.stride) for n in size)}


def test_dropout_in_training_only_and_of_whole_channels(network):
    """Two passes in training mode differ from conv6 on, and only there: b6 and b7 drop, the batch norms stay as set."""
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    network.b6.dropout.train(), network.b7.dropout.train()
    try:
        with torch.inference_mode():
            torch.manual_seed(0)
            first, second = network.taps(x), network.taps(x)
    finally:
        network.eval()
    assert (network.b6.dropout.p, network.b7.dropout.p) == (0.3, 0.5)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert not torch.allclose(first[2], second[2])
    with torch.inference_mode():
        assert torch.equal(network(x), network(x))
    assert sum(isinstance(m, nn.Dropout2d) for m in network.modules()) == 2


def test_early_layers_are_those_at_strides_up_to_2(network):
    assert set(network.early_layers) == {n for n, _ in network.named_children() if n == "conv1a" or n.startswith("b2")}
