"""SEAM against the published network, the PCM against its definition, and what is trained and what is not."""

import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from net import NetFacts, for_inference, seam
from net.densenet169 import DenseNet169
from net.efficientnet_lite import EfficientNetLite
from net.network import parameter_groups
from net.resnet38 import ResNet38, published
from net.resnet50 import ResNet50
from net.seam import SEAMNet, normalised_cam
from pgt.cam import mirrored, pyramid, unmirror
from pgt.losses import SEAMWeights, seam_loss

BACKBONES = {
    "efficientnet_lite0": lambda: EfficientNetLite("efficientnet_lite0", 16),
    "efficientnet_lite0 at stride 8": lambda: EfficientNetLite("efficientnet_lite0", 8),
    "efficientnet_lite2": lambda: EfficientNetLite("efficientnet_lite2", 16),
    "resnet50": lambda: ResNet50("cam"),
    "densenet169": lambda: DenseNet169("cam"),
}


@pytest.fixture(scope="module")
def expected(golden):
    return golden("hfpl_resnet38_seam")


@pytest.fixture(scope="module")
def network(expected, golden):
    """The published network: original key names, loaded strictly."""
    facts, state = published({k: torch.from_numpy(np.array(v)) for k, v in golden.weights(expected).items()})
    assert (facts.network, facts.num_classes, facts.head) == ("resnet38", 20, "seam")
    made = SEAMNet(ResNet38(), facts)
    made.load_state_dict(state)
    return made.eval()


def small(name="efficientnet_lite0", num_classes=4, **kwargs):
    torch.manual_seed(0)
    made = SEAMNet(BACKBONES[name](), NetFacts(name.split()[0], num_classes), **kwargs)
    for m in made.modules():  # batch norms that are no identity
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.8, 1.2)
    return made


def tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None]


# ---- published ----


@pytest.mark.parametrize("name", ["coffee_101x151", "chelsea_141x187_to65x97"])
@pytest.mark.parametrize(("at", "key", "step"), [(0, "cam_every3", 3), (1, "cam_rv_every3", 3), (2, "logits", 1)])
def test_forward_golden(name, at, key, step, expected, network, golden):
    image = expected[f"{name}.input_u8"] if f"{name}.input_u8" in expected.files else golden.image(name)
    with torch.inference_mode():
        got = network(tensor(image))[at][:, ::step]
    _assert_close(got, expected[f"{name}.{key}"])


def test_pcm_golden(expected, network, monkeypatch):
    cam, features = (torch.from_numpy(expected[f"pcm.{key}"]) for key in ("cam_in", "f_in"))
    for block in (1, 7 * 13 * 15, 1 << 24):  # a column at a time, seven, all
        monkeypatch.setattr(seam, "_BLOCK", block)
        with torch.inference_mode():
            _assert_close(network.pcm(cam, features), expected["pcm.out"])


def test_parameter_groups_golden(expected, network):
    """Same tensors in the same order, the fixed ones among them; those with a gradient are those that were trained."""
    names = {id(p): name.removeprefix("backbone.") for name, p in network.named_parameters()}
    groups = parameter_groups(network.train())
    network.eval()
    for i, group in enumerate(groups):
        assert [names[id(p)] for p in group] == [k for k in expected[f"param_group{i}_before_train"] if k]
        trained = [names[id(p)] for p in group if p.requires_grad]
        assert trained == [k for k in expected[f"param_group{i}_after_train"] if k]
    trained = [names[id(p)] for p in network.parameters() if p.requires_grad]
    assert trained == expected["requires_grad_after_train"].tolist()


def test_cam_is_what_published_inference_adds_up(network, golden):
    """Over scales and mirrors, each brought to the size of the image, then from the minimum to the maximum."""
    image, total = golden.image("coffee_101x151"), 0
    with torch.inference_mode():
        for scale in (0.5, 1.0, 1.5, 2.0):
            _, cam = network.cam(mirrored(pyramid(image, [scale])), torch.tensor([3, 14]))
            total = total + unmirror(interpolate(cam, image.shape[:2], mode="bilinear", align_corners=False))[0]
    low, high = total.amin((1, 2), keepdim=True), total.amax((1, 2), keepdim=True)
    got = ((total - low - 1e-5) / (high - low + 1e-5)).clamp(min=0)
    _assert_close(got, golden("hfpl_intended_variants")["norm_cam_clipped.coffee_101x151"])


def test_gradients_of_the_published_training_step(network, golden):
    """Loss and gradient norm of every parameter; eval, for the golden numbers are without dropout."""
    expected = golden("hfpl_train_cam_lw0")
    img1 = torch.from_numpy(expected["img1"])
    img2 = interpolate(img1, scale_factor=0.3, mode="bilinear", align_corners=True)
    views = [network(img * network.std + network.mean) for img in (img1, img2)]
    label = torch.from_numpy(expected["label"])
    image = img1 * network.std / 255 + network.mean / 255
    total = seam_loss(*views, image=image, label=label, weights=SEAMWeights(isl_weight=0))["total"]
    np.testing.assert_allclose(total.item(), expected["loss"], rtol=1e-4)
    total.backward()
    norms = {n.removeprefix("backbone."): p.grad.norm() for n, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    assert list(norms) == expected["grad_norm_names"].tolist()
    np.testing.assert_allclose(list(norms.values()), expected["grad_norms"], rtol=1e-3)


def test_other_state_dicts_are_not_taken_for_it():
    ours = small().state_dict()
    assert published({k: v for k, v in ours.items() if not k.startswith("f9")}) is None
    assert published({}) is None


# ---- definition ----


def test_normalised_cam_by_hand():
    rng = np.random.default_rng(0)
    cam = rng.standard_normal((2, 4, 3, 5)).astype(np.float32)
    cam[1, 2] = -1  # a class that is nowhere
    want = np.zeros_like(cam)
    for n in range(2):
        share = np.stack([np.maximum(np.maximum(c, 0) - 1e-5, 0) / (max(c.max(), 0) + 1e-5) for c in cam[n, 1:]])
        for y in range(3):
            for x in range(5):
                k = share[:, y, x].argmax()
                want[n, 0, y, x] = 1 - share[k, y, x]
                want[n, 1 + k, y, x] = share[k, y, x]
    np.testing.assert_allclose(normalised_cam(torch.from_numpy(cam)), want, rtol=0, atol=1e-6)


def test_pcm_is_the_mean_over_alike_pixels():
    net = small()
    cam, features = torch.rand(1, 2, 3, 4), torch.randn(1, 195, 3, 4)
    with torch.inference_mode():
        got = net.pcm(cam, features)[0].flatten(1).double().numpy()
        f = net.f9(features)[0].flatten(1).double().numpy()
    for j in range(12):
        cosine = [max(0, f[:, i] @ f[:, j] / np.linalg.norm(f[:, i]) / np.linalg.norm(f[:, j])) for i in range(12)]
        np.testing.assert_allclose(got[:, j], cam[0].flatten(1).double().numpy() @ cosine / sum(cosine), rtol=1e-4)


# ---- any backbone ----


@pytest.mark.parametrize("name", BACKBONES)
def test_any_backbone(name, photographs):
    net = small(name).eval()
    backbone = net.backbone
    x = tensor(photographs.cat[:97, :130])
    with torch.inference_mode():
        taps = backbone.taps(net.normalised(x))
        assert torch.equal(backbone(net.normalised(x)), taps[-1])
        cam, cam_rv, logits = net(x)
    assert tuple(tap.shape[1] for tap in taps) == backbone.tap_dims
    assert all(97 // 8 <= taps[0].shape[2] <= 97 / 8 + 1 and taps[0].shape[2] >= tap.shape[2] for tap in taps)
    assert logits.shape == (1, 5, *taps[-1].shape[2:]) and abs(logits.shape[3] - 130 / backbone.stride) < 1
    assert cam.shape == cam_rv.shape == (1, 5, 97, 130)
    assert cam_rv.min() >= 0 and cam_rv.max() <= 1
    for layer in backbone.early_layers:
        assert not any(p.requires_grad for p in backbone.get_submodule(layer).parameters())


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet50"])
def test_for_inference_changes_nothing(name, photographs):
    net = small(name)
    folded, net = for_inference(net), net.eval()
    x = tensor(photographs.cat[:65, :97])
    with torch.inference_mode():
        for got, want in zip((*folded(x), *folded.cam(x)), (*net(x), *net.cam(x)), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-4 * want.abs().max().item())


def test_cam_is_forward_without_background_and_keys_are_a_part_of_it(photographs):
    net = small().eval()
    x = tensor(photographs.cat[:65, :97])
    with torch.inference_mode():
        _, cam_rv, logits = net(x)
        image_logits, cam = net.cam(x)
        torch.testing.assert_close(image_logits, logits[:, 1:].mean((2, 3)))
        torch.testing.assert_close(cam, cam_rv[:, 1:])
        keys = torch.tensor([3, 0])
        torch.testing.assert_close(net.cam(x, keys)[1], cam[:, keys])
        assert net.cam(x, keys[:0])[1].shape == (1, 0, 65, 97)
        grid, grid_rv = net.grid(x)
        torch.testing.assert_close(grid, logits, rtol=0, atol=0)
        torch.testing.assert_close(interpolate(grid_rv, (65, 97), mode="bilinear", align_corners=True), cam_rv)
        torch.testing.assert_close(net.cam(x.float())[1], cam, rtol=0, atol=0)
        torch.testing.assert_close(net.cam(torch.cat([x.flip(-1), x]))[1][1:], cam)


# ---- training ----


def _step(net):
    """One forward in training mode of a few pixels; -> cam, cam_rv."""
    net.train()
    torch.manual_seed(1)
    return net(torch.randint(0, 256, (2, 3, 64, 64)).float())[:2]


def test_gradient_of_cam_rv_stays_in_the_pcm():
    net, pcm = small(), {"f8_3.weight", "f8_4.weight", "f9.weight"}
    cam, cam_rv = _step(net)
    cam_rv.square().sum().backward()
    assert {name for name, p in net.named_parameters() if p.grad is not None} == pcm
    net.zero_grad()
    cam.square().sum().backward()
    reached = {name for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert reached == {name for name, p in net.named_parameters() if p.requires_grad} - pcm


@pytest.mark.parametrize("fix_norms", [True, False])
def test_what_is_fixed_stays(fix_norms):
    net = small(fix_norms=fix_norms)
    before = copy.deepcopy(net.state_dict())
    cam, cam_rv = _step(net)
    (cam.square().mean() + cam_rv.square().mean()).backward()
    norms = {f"{n}." for n, m in net.backbone.named_modules(prefix="backbone") if isinstance(m, torch.nn.BatchNorm2d)}
    early = tuple(f"backbone.{layer}." for layer in net.backbone.early_layers)
    with torch.no_grad():
        for p in net.parameters():
            p -= 0.1 * torch.sign(p.grad) if p.grad is not None else 0
    for key, value in net.state_dict().items():
        is_norm = key.rpartition(".")[0] + "." in norms
        fixed = key.startswith(early) or (fix_norms and is_norm)
        assert torch.equal(value, before[key]) == fixed, key
    assert net.fc8.training and not net.eval().dropout.training


def test_checkpoint_of_another_shape_is_refused(network):
    with torch.device("meta"):
        other = SEAMNet(ResNet38(), NetFacts("resnet38", 80))
    with pytest.raises(RuntimeError, match="fc8.weight"):
        other.load_state_dict(network.state_dict(), assign=True)
    state = network.state_dict()
    del state["backbone.b4_3.conv_branch2a.weight"]
    with pytest.raises(RuntimeError, match="b4_3.conv_branch2a.weight"):
        network.load_state_dict(state)


def _assert_close(got, want):
    assert got.shape == want.shape
    np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=1e-4 * np.abs(want).max())


def test_a_whitened_pcm_tells_pixels_apart(photographs):
    """Over all its pixels the mean cosine is 0; within one picture, whose pixels are alike, it is more."""
    network = small().eval()
    pictures = (torch.from_numpy(np.array(p)).permute(2, 0, 1)[None] for p in (photographs.cat, photographs.coffee))
    images = torch.cat([interpolate(picture.float(), (96, 128)) for picture in pictures])
    random, whitened = (_mean_cosine(network, images, start) for start in (False, True))
    assert random > 0.9 and abs(whitened) < 0.4
    again = small().eval()
    again.whiten_pcm(images)
    assert torch.equal(network.f9.weight, again.f9.weight) and not network.training and again.train().training
    few = small()
    few.whiten_pcm(images, dims=8)
    assert (few.f9.weight.flatten(1).abs().sum(1) > 0).sum() == 8 and few.training


def _mean_cosine(network, images, whitened):
    """Between the pixels of an image, as the PCM compares them."""
    if whitened:
        network.whiten_pcm(images)
    seen = []
    hook = network.f9.register_forward_hook(lambda *args: seen.append(args[2]))
    with torch.inference_mode():
        network.grid(images)
    hook.remove()
    f = torch.nn.functional.normalize(seen[0].flatten(2), dim=1)
    return float((f.transpose(1, 2) @ f).mean())
