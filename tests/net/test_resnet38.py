"""WideResNet-38 against the published one."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from misc.errors import InputError
from net import NetFacts, resnet38
from net.mxnet import read_params
from net.resnet38 import ResNet38, params_key
from net.weights import load_backbone, read_checkpoint


@pytest.fixture(scope="module")
def held(golden):
    return golden("hfpl_resnet38_seam")


@pytest.fixture(scope="module")
def network(held, golden):
    """With the weights of the golden file, loaded strictly."""
    state = {k: torch.from_numpy(np.array(v)) for k, v in golden.weights(held).items()}
    _, state = resnet38.published(state)
    made = ResNet38()
    made.load_state_dict({k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")})
    return made.eval()


def test_names_shapes_and_order_are_the_published_ones(held):
    with torch.device("meta"):
        made = ResNet38()
    here = [f"{k}|{','.join(map(str, v.shape))}" for k, v in made.state_dict().items()]
    head = ("fc8", "f8_3", "f8_4", "f9")
    assert here == [str(s).rsplit("|", 2)[0] for s in held["state_dict_spec"] if not str(s).startswith(head)]


def test_taps_golden(held, network):
    name = "chelsea_141x187_to65x97"
    x = torch.from_numpy(held[f"{name}.input_u8"]).permute(2, 0, 1)[None] / 255
    x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.inference_mode():
        taps = network.taps(x)
        torch.testing.assert_close(network(x), taps[-1], rtol=0, atol=0)
    assert tuple(tap.shape[1] for tap in taps) == network.tap_dims
    for layer, tap in zip((4, 5, 6), taps, strict=True):
        want = held[f"{name}.conv{layer}_every32"]
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


@pytest.mark.parametrize("layout", ["legacy", "v2"])
def test_params_golden(layout, golden, shared):
    expected = golden("hfpl_mxnet_params")
    path = shared("golden", f"mx_{layout}.params")
    arrays = read_params(path)
    assert list(arrays) == expected["mx_names"].tolist()
    facts, state = resnet38.published({name: torch.from_numpy(array) for name, array in arrays.items()})
    assert facts.network == "resnet38" and all(key.startswith("backbone.") for key in state)
    assert [key.removeprefix("backbone.") for key in state] == expected["torch_keys_in_file_order"].tolist()
    assert [",".join(map(str, v.shape)) for v in state.values()] == expected["torch_shapes"].tolist()
    np.testing.assert_array_equal(torch.cat([v.flatten() for v in state.values()]), expected["values_flat"])
    with torch.device("meta"):
        network = ResNet38()  # strict, with nothing left over; batch norms fill in their counters
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    keys = (key.removeprefix("backbone.") for key in state)
    network.load_state_dict({key: torch.empty(shapes[key], device="meta") for key in keys}, assign=True)


def test_a_params_file_is_a_backbone_to_start_from_and_no_more(shared):
    path, got = shared("golden", "mx_v2.params"), {}
    random = torch.get_rng_state()
    backbone = SimpleNamespace(load_state_dict=got.update)
    load_backbone(SimpleNamespace(facts=NetFacts("resnet38", 2), backbone=backbone), path)
    arrays = read_params(path)
    assert len(got) == len(arrays) - sum("linear" in name for name in arrays)
    np.testing.assert_array_equal(got["conv1a.weight"], arrays["arg:conv1a_weight"])
    assert torch.equal(torch.get_rng_state(), random)
    with pytest.raises(InputError, match="does not fit .it is of a resnet38, and a resnet50 is wanted"):
        load_backbone(SimpleNamespace(facts=NetFacts("resnet50", 2), backbone=backbone), path)
    with pytest.raises(InputError, match=r"mx_v2\.params does not fit .unknown head 'none'"):
        read_checkpoint(path)


def test_names_in_the_params_file():
    want = {
        "arg:conv1a_weight": "conv1a.weight",
        "arg:res2a_branch2a_weight": "b2.conv_branch2a.weight",
        "arg:res4b5_branch2b1_weight": "b4_5.conv_branch2b1.weight",
        "arg:res7a_branch1_weight": "b7.conv_branch1.weight",
        "arg:bn6a_branch2b2_gamma": "b6.bn_branch2b2.weight",
        "aux:bn2b1_branch2a_moving_var": "b2_1.bn_branch2a.running_var",
        "arg:bn7_beta": "bn7.bias",
        "aux:bn7_moving_mean": "bn7.running_mean",
        "arg:linear1000_weight": None,
        "arg:linear1000_bias": None,
    }
    assert {name: params_key(name) for name in want} == want
    with pytest.raises(ValueError, match="arg:stage1_unit1_weight is no tensor of ResNet-38"):
        resnet38.published({"arg:stage1_unit1_weight": torch.zeros(1)})
