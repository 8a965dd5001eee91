"""DeepLab against the published final network, its other heads and backbones, and how batch norms are trained."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from net import NetFacts, build, for_inference
from net.deeplab import _PIXEL as PIXEL
from net.deeplab import HEADS, SegNet
from net.efficientnet_lite import EfficientNetLite
from net.network import parameter_groups, resized
from net.resnet38 import ResNet38, published
from net.resnet50 import ResNet50

BACKBONES = {
    "efficientnet_lite0": lambda: EfficientNetLite("efficientnet_lite0", 16),
    "efficientnet_lite1 at stride 8": lambda: EfficientNetLite("efficientnet_lite1", 8),
    "resnet50": lambda: ResNet50("imagenet"),
}


@pytest.fixture(scope="module")
def expected(golden):
    return golden("hfpl_deeplabv1_resnet38")


@pytest.fixture(scope="module")
def network(expected, golden):
    facts, state = published({k: torch.from_numpy(np.array(v)) for k, v in golden.weights(expected).items()})
    assert (facts.network, facts.num_classes, facts.head) == ("resnet38", 20, "largefov")
    made = SegNet(ResNet38(), facts)
    made.load_state_dict(state)
    return made.eval()


def small(name="efficientnet_lite0", head="largefov", **kwargs):
    torch.manual_seed(0)
    return SegNet(BACKBONES[name](), NetFacts(name.split()[0], 3, head=head), **kwargs)


def test_forward_golden(expected, network):
    name = "chelsea_141x187_to129x161"
    with torch.inference_mode():
        logits = network(torch.from_numpy(expected[f"{name}.input_u8"]).permute(2, 0, 1)[None])
    want = expected[f"{name}.out_every2"]
    assert logits[:, ::2].shape == want.shape
    np.testing.assert_allclose(logits[:, ::2], want, rtol=0, atol=1e-4 * np.abs(want).max())
    assert (logits.argmax(1).numpy() == expected[f"{name}.argmax"]).mean() >= 0.999


def test_parameter_groups_golden(expected, network):
    """All 43, 0, 3 and 1 of them are trained; batch norms are in no group."""
    names = {id(p): name.removeprefix("head.") for name, p in network.named_parameters()}
    groups = parameter_groups(network)
    for i, group in enumerate(groups):
        assert [names[id(p)] for p in group] == [k for k in expected[f"param_group{i}"] if k]
        assert all(p.requires_grad for p in group)
    assert [len(group) for group in groups] == [43, 0, 3, 1]


def test_published_batch_norms_train_at_their_momentum(network):
    norms = [m for m in network.train().modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(m.training and m.momentum == 3e-4 and m.weight.requires_grad for m in norms)
    network.eval()


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", BACKBONES)
def test_any_backbone_with_any_head(name, head, photographs):
    net = small(name, head).eval()
    x = torch.from_numpy(photographs.cat[:97, :130].copy()).permute(2, 0, 1)[None]
    folded = for_inference(net)
    with torch.inference_mode():
        want, grid = net(x), net.grid(x)
        torch.testing.assert_close(folded(x), want, rtol=1e-3, atol=1e-4 * want.abs().max().item())
    assert want.shape == (1, 4, 97, 130)
    assert grid.shape == (1, 4, *(-(-n // (4 if head == "objects" else net.backbone.stride)) for n in (97, 130)))
    for rows, columns in ((0, 0), (-1, -1)):  # corners on corners
        torch.testing.assert_close(want[:, :, rows, columns], grid[:, :, rows, columns], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "dilation"), [("resnet50", 6), ("efficientnet_lite1 at stride 8", 12)])
def test_both_heads_see_equally_far_at_every_stride(name, dilation):
    assert small(name).head.conv_fov.dilation == (dilation, dilation)
    aspp = small(name, "deeplabv3").head[0].convs
    assert [aspp[i][0].dilation[0] for i in (1, 2, 3)] == [dilation, 2 * dilation, 3 * dilation]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("fix_norms", [False, True])
def test_running_statistics_move_by_the_momentum_where_norms_are_not_fixed(head, fix_norms):
    net = small(head=head, fix_norms=fix_norms, norm_momentum=0.25).train()
    seen = {}
    for name, m in net.named_modules():
        if isinstance(m, nn.BatchNorm2d):
            m.register_forward_hook(lambda m, x, y, name=name: seen.update({name: x[0].mean((0, 2, 3)).detach()}))
    before = copy.deepcopy(net.state_dict())
    net(torch.rand(2, 3, 64, 64) * 255).square().mean().backward()
    assert len(seen) > 40
    for name, mean in seen.items():
        fixed = fix_norms and name.startswith("backbone.")
        want = before[f"{name}.running_mean"] * (1 if fixed else 0.75) + mean * (0 if fixed else 0.25)
        torch.testing.assert_close(net.state_dict()[f"{name}.running_mean"], want, rtol=1e-4, atol=1e-5)
        assert (net.get_submodule(name).weight.grad is None) == fixed
    assert net.backbone.stem[0].weight.grad is not None


def test_the_head_of_classes_starts_as_the_classifiers_and_the_saliency_that_it_is_given(photographs):
    net, saliency = small(head="objects").eval(), build("efficientnet_lite0", 0, head="saliency").eval()
    net.backbone.load_state_dict(saliency.backbone.state_dict())
    bias = torch.tensor([-3.0, 0.0, 2.0])
    x = torch.from_numpy(photographs.cat[:96, :128].copy()).permute(2, 0, 1)[None]
    with torch.no_grad():
        features = net.backbone(net.normalised(x))
    rows, weights = torch.randn(2, 3, 1280, generator=torch.Generator().manual_seed(0)) / features.std() / 30
    net.head.know_classes(rows, (weights, bias))
    net.head.know_objects(saliency)
    with torch.inference_mode():
        found = net.grid(x)[0]
        cam = torch.einsum("ndhw,kd->nkhw", features, rows)
        objects = F.avg_pool2d(saliency(x).sigmoid(), 24 // features.shape[2]) * 0.95 + 0.05
        mean = (features * objects).sum((2, 3)) / objects.sum((2, 3))
        torch.testing.assert_close(net.head.mean_feature(net.backbone.all_taps(net.normalised(x))), mean)
        present = (mean @ weights.T + bias).sigmoid()[0, :, None, None]
        cam = cam.relu() - cam.relu().amin((2, 3), keepdim=True)
        likely = cam[0] / cam[0].amax((1, 2), keepdim=True) * present / present.max()
        objects = 0.6 * saliency(x)[0].sigmoid() + 0.4 * resized(likely.amax(0)[None, None], found.shape[1:])[0]
        classes = resized(PIXEL * torch.einsum("ndhw,kd->nkhw", features, rows), found.shape[1:])[0].exp() * present
        want = torch.cat([(1 - objects) ** 4, objects * classes / classes.sum(0)]) ** 2
        torch.testing.assert_close(found.softmax(0), want / want.sum(0), rtol=1e-3, atol=1e-3)


def test_a_saliency_network_of_another_backbone_is_no_start():
    net = small(head="objects")
    before = copy.deepcopy(net.head.state_dict())
    for other in (None, build("efficientnet_lite2", 0, head="saliency")):
        net.head.know_objects(other)
        assert all(torch.equal(a, b) for a, b in zip(before.values(), net.head.state_dict().values(), strict=True))


def test_unknown_head():
    with pytest.raises(ValueError, match="unknown segmentation head 'sigmoid': choose one of largefov, "):
        small(head="sigmoid")


def test_other_state_dicts_are_not_taken_for_it():
    assert published({"conv_fov.weight": 0}) is None
    assert published(small().state_dict()) is None
