"""AffinityNet against the published one, and affinities against their definition."""

import numpy as np
import pytest
import torch

from net import NetFacts, for_inference
from net.affinitynet import AffinityNet, affinity
from net.densenet169 import DenseNet169
from net.efficientnet_lite import EfficientNetLite
from net.network import parameter_groups
from net.resnet38 import ResNet38, published
from net.resnet50 import ResNet50
from pgt.affinity import RADIUS, pair_indices

FACTS = NetFacts("any", 0)
BACKBONES = {
    "efficientnet_lite0": lambda: EfficientNetLite("efficientnet_lite0", 16),
    "efficientnet_lite0 at stride 8": lambda: EfficientNetLite("efficientnet_lite0", 8),
    "resnet50": lambda: ResNet50("cam"),
    "densenet169": lambda: DenseNet169("cam"),
}


def dense_affinity(values: torch.Tensor, ind_from: torch.Tensor, ind_to: torch.Tensor, area: int) -> torch.Tensor:
    """values (P,M) of one image, for pairs as in affinity() -> the symmetric matrix (area,area), its diagonal 1."""
    matrix = torch.eye(area, dtype=values.dtype)
    ind_from = ind_from.expand_as(ind_to)
    matrix[ind_from, ind_to] = matrix[ind_to, ind_from] = values
    return matrix


@pytest.fixture(scope="module")
def expected(golden):
    return golden("hfpl_resnet38_aff")


@pytest.fixture(scope="module")
def network(expected, golden):
    facts, state = published({k: torch.from_numpy(np.array(v)) for k, v in golden.weights(expected).items()})
    assert (facts.network, facts.num_classes, facts.head) == ("resnet38", 0, "affinity")
    made = AffinityNet(ResNet38(), facts)
    made.load_state_dict(state)
    return made.eval()


@pytest.mark.parametrize("name", ["coffee_101x151_to96x128", "chelsea_141x187_to104x96", "coffee_101x151_to56x72"])
def test_affinity_golden(name, expected, network):
    with torch.inference_mode():
        features = network(torch.from_numpy(expected[f"{name}.input_u8"]).permute(2, 0, 1)[None])
    size = tuple(features.shape[2:])
    ind_from, ind_to = pair_indices(RADIUS, size)
    values = affinity(features, ind_from, ind_to)
    dense = dense_affinity(values[0], ind_from, ind_to, size[0] * size[1])
    for got, key in ((values, "aff_sparse"), (dense, "aff_dense")):
        assert got.shape == expected[f"{name}.{key}"].shape
        np.testing.assert_allclose(got.numpy(), expected[f"{name}.{key}"], rtol=0, atol=1e-4)


def test_parameter_groups_golden(expected, network):
    names = {id(p): name.removeprefix("backbone.") for name, p in network.named_parameters()}
    for i, group in enumerate(parameter_groups(network)):
        assert [names[id(p)] for p in group] == [k for k in expected[f"param_group{i}_before_train"] if k]
        assert all(p.requires_grad != names[id(p)].startswith(network.backbone.early_layers) for p in group)


def test_sides_are_filled_up_with_the_mean_colour(network, photographs):
    x = torch.from_numpy(photographs.cat[:61, :83].copy()).permute(2, 0, 1)[None].float()
    filled = network.mean.expand(1, 3, 64, 88).clone()
    filled[..., :61, :83] = x
    with torch.inference_mode():
        got, want = network(x), network(filled)
    assert got.shape == (1, 448, 8, 11)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5 * want.abs().max().item())


@pytest.mark.parametrize("name", BACKBONES)
def test_any_backbone_gives_stride_8(name, photographs):
    torch.manual_seed(0)
    net = AffinityNet(BACKBONES[name](), FACTS)
    x = torch.from_numpy(photographs.cat[:97, :130].copy()).permute(2, 0, 1)[None]
    features = net(x.float())
    assert features.shape == (1, 448, 13, 17)
    features.square().mean().backward()
    trained = {n for n, p in net.named_parameters() if p.requires_grad}
    assert {n for n, p in net.named_parameters() if p.grad is not None} == trained
    if name.startswith("densenet"):  # cannot be folded wholly, and takes long
        return
    folded, net = for_inference(net), net.eval()
    with torch.inference_mode():
        want = net(x)
        torch.testing.assert_close(folded(x), want, rtol=1e-3, atol=1e-4 * want.abs().max().item())


def test_affinity_is_its_definition():
    features = torch.randn(2, 6, 12, 13, requires_grad=True)
    ind_from, ind_to = pair_indices(3, (12, 13))
    got = affinity(features, ind_from, ind_to)
    f = features.detach().flatten(2).numpy()
    for n, p, m in np.ndindex(*got.shape):
        if (n + p + m) % 7 == 0:
            want = np.exp(-np.abs(f[n, :, ind_from[m]] - f[n, :, ind_to[p, m]]).mean())
            np.testing.assert_allclose(got[n, p, m].item(), want, rtol=1e-5)
    f_from, f_to = (features.flatten(2)[:, :, i] for i in (ind_from, ind_to))  # all pairs at once
    whole = (-(f_to - f_from[:, :, None]).abs().mean(1)).exp()
    torch.testing.assert_close(got, whole)
    weight = torch.rand_like(got)
    gradients = [torch.autograd.grad((weight * a).sum(), features)[0] for a in (got, whole)]
    torch.testing.assert_close(*gradients)


def test_a_grid_too_small_for_pairs_has_no_affinities():
    ind_from, ind_to = pair_indices(RADIUS, (3, 4))
    got = affinity(torch.randn(2, 6, 3, 4), ind_from, ind_to)
    assert got.shape == (2, *ind_to.shape) and got.numel() == 0


def test_other_state_dicts_are_not_taken_for_it():
    seam = {"fc8.weight": torch.zeros(3, 1), "f8_3.weight": 0, "f8_4.weight": 0, "f9.weight": 0}
    assert published(seam)[0].head == "seam"
    assert published({k: v for k, v in seam.items() if k != "fc8.weight"}) is None
