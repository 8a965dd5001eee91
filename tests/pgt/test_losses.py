import dataclasses
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pgt import losses
from pgt.losses import (
    SEAMWeights,
    adaptive_min_pooling_loss,
    ecr_loss,
    er_loss,
    feature_similarity_loss,
    generalized_cross_entropy,
    importance_sampling,
    max_norm,
    max_onehot,
    multilabel_soft_margin,
    pos_weight_for,
    sample_pixels,
    seam_loss,
    with_background,
)

MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
PARTS = {
    "total": "loss",
    "cls1": "loss_cls1",
    "cls2": "loss_cls2",
    "isl": "loss_cls_is1",
    "rvmin1": "loss_rvmin1",
    "rvmin2": "loss_rvmin2",
    "er": "loss_er",
    "ecr1": "loss_ecr1",
    "ecr2": "loss_ecr2",
    "fsl": "loss_fs1",
}


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def resize(maps, size):
    return F.interpolate(maps, size, mode="bilinear", align_corners=True)


def pictures(photographs, *size):
    both = (photographs.coffee, photographs.cat)
    return torch.cat([resize(torch.from_numpy(p).permute(2, 0, 1)[None].float() / 255, size) for p in both])


def smooth_maps(classes, *size):
    return with_background(resize(random(2, classes, 5, 6), size))


def value_and_grad(loss, *inputs):
    leaves = [tensor.detach().clone().requires_grad_() for tensor in inputs]
    value = loss(*leaves)
    value.backward()
    return value.item(), *(leaf.grad for leaf in leaves)


def every_pair(image, cam, mu=2.5, sigma=5.0, max_dist=math.inf, px=1, py=2):
    """FSL with all (hw)^2 pairs at once, from the paper's equation, in double precision."""
    n, channels, h, w = image.shape
    x = image.double().clamp(0, 1).flatten(2)
    y = cam.double().flatten(2)
    place = torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")).flatten(1).double()
    apart = (place[:, :, None] - place[:, None]).square().sum(0).sqrt()
    d = ((x[..., None] - x[..., None, :]).abs().pow(px).sum(1) / channels) ** (1 / px)
    s = torch.tanh(mu + torch.log((d + 1e-5) / (1 - d + 1e-5)))
    g = torch.exp(-((apart / sigma) ** 2) / 2) / (2 * math.pi * sigma**2) if sigma else torch.tensor(1 / (h * w))
    unlike = sum((y[:, c, :, None] - y[:, c, None]).abs().pow(py) for c in range(y.shape[1])) / 2
    return -(g * (apart <= max_dist) * s * unlike).sum() / (n * h * w)


# ---- feature similarity


def test_published_feature_similarity(golden):
    """All 216 settings. The published `fast` counts image 0 of a batch only, yet divides by two."""
    z = golden("hfpl_probutils")
    x, y = torch.from_numpy(z["fsl.x"]), torch.from_numpy(z["fsl.y"])
    assert len(z["fsl.table"]) == 216
    for mu, sigma, px, py, fast, max_dist, batch, loss, grad_norm, _ in z["fsl.table"].tolist():
        settings = (mu, None if sigma < 0 else sigma, max_dist if fast else None, px, py)
        counted = 1 if fast else int(batch)
        value, grad = value_and_grad(lambda y: feature_similarity_loss(x[:counted], y, *settings), y[:counted])  # noqa: B023
        share = counted / batch
        np.testing.assert_allclose(
            [value * share, grad.norm() * share], [loss, grad_norm], rtol=1e-4, err_msg=f"{settings} {batch}"
        )


@pytest.mark.parametrize("max_dist", [3, 10])
def test_feature_similarity_of_a_batch_is_the_mean(golden, max_dist):
    """What `fast` should give for two images."""
    z = golden("hfpl_probutils")
    x, y = torch.from_numpy(z["fsl.x"]), torch.from_numpy(z["fsl.y"])
    single = [float(feature_similarity_loss(x[i : i + 1], y[i : i + 1], max_dist=max_dist)) for i in range(2)]
    np.testing.assert_allclose(single, z[f"fsl.fast_md{max_dist}.per_image"], rtol=1e-4)
    both = float(feature_similarity_loss(x, y, max_dist=max_dist))
    np.testing.assert_allclose(both, z[f"fsl.fast_md{max_dist}.batch2_mean_over_images"], rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "max_dist", "counted"), [("fast0_md10", None, 2), ("fast1_md10", 10, 1), ("fast1_md3", 3, 1)]
)
def test_published_gradient_of_feature_similarity(golden, name, max_dist, counted):
    z = golden("hfpl_probutils")
    x, y = (torch.from_numpy(z[key])[:counted] for key in ("fsl.x", "fsl.y"))
    _, grad = value_and_grad(lambda y: feature_similarity_loss(x, y, max_dist=max_dist), y)
    expected = z[f"fsl.grad_y.default_{name}"][:counted]
    np.testing.assert_allclose(grad.numpy() * counted / 2, expected, atol=1e-5 * abs(expected).max(), rtol=0)


@pytest.mark.parametrize("size", [(56, 56), (30, 71), (90, 9), (1, 40), (40, 1), (1, 1)])
def test_window_equals_every_pair(photographs, size):
    """Value and gradient at the published sigma; windows cut at all sides, tiles of unlike width."""
    image, cam = pictures(photographs, *size)[:1], smooth_maps(2, *size)[:1]
    value, grad = value_and_grad(lambda y: feature_similarity_loss(image, y), cam)
    expected, expected_grad = value_and_grad(lambda y: every_pair(image, y), cam)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(grad, expected_grad, rtol=0, atol=1e-5 * float(expected_grad.abs().max()) + 1e-12)


@pytest.mark.parametrize(
    "settings",
    [
        {"sigma": None},
        {"sigma": math.inf},
        {"sigma": 1.5},
        {"sigma": 0.3},
        {"sigma": None, "max_dist": 6.5},
        {"max_dist": 1},
        {"mu": -1.0, "px": 3, "py": 1.5},
        {"mu": 30.0},
        {"mu": -30.0},
        {"py": 1},
    ],
    ids=str,
)
def test_settings_equal_every_pair(photographs, settings):
    size = 13, 37
    image, cam = pictures(photographs, *size), smooth_maps(3, *size)
    value, grad = value_and_grad(lambda y: feature_similarity_loss(image, y, **settings), cam)
    plain = settings | ({"sigma": None} if settings.get("sigma") == math.inf else {})
    expected, expected_grad = value_and_grad(lambda y: every_pair(image, y, **plain), cam)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    np.testing.assert_allclose(grad, expected_grad, rtol=0, atol=1e-4 * float(expected_grad.abs().max()))


def test_grid_too_large_for_all_pairs(photographs):
    """40,000 pixels: all pairs would take 6 GB. Against the sum over shifts of the whole picture."""
    h, w, sigma = 160, 250, 0.7
    image, cam = pictures(photographs, h, w)[:1], smooth_maps(1, h, w)[:1]
    expected = 0.0
    for dy in range(5):
        for dx in range(-4, 5):
            here = slice(dy, h), slice(max(dx, 0), w + min(dx, 0))
            there = slice(0, h - dy), slice(max(-dx, 0), w + min(-dx, 0))
            d = (image[(..., *here)] - image[(..., *there)]).abs().mean(1)
            s = torch.tanh(2.5 + torch.log((d + 1e-5) / (1 - d + 1e-5)))
            unlike = (cam[(..., *here)] - cam[(..., *there)]).square().sum(1) / (2 if dy else 4)  # dy and -dy at once
            near = math.exp(-(dy * dy + dx * dx) / (2 * sigma**2)) / (2 * math.pi * sigma**2)
            expected -= 2 * near * (s * unlike).double().sum().item() / (h * w)
    np.testing.assert_allclose(feature_similarity_loss(image, cam, sigma=sigma).item(), expected, rtol=1e-4)


@pytest.mark.parametrize("py", [1, 2, 3.5])
def test_gradient_is_that_of_the_value(photographs, py):
    image, cam = pictures(photographs, 5, 6).double(), random(2, 2, 5, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda y: 3 * feature_similarity_loss(image, y, py=py), cam)


def test_alike_colours_pull_together_and_unlike_ones_apart():
    cam = torch.zeros(1, 1, 1, 2)
    cam[..., 1] = 1
    flat, edge = torch.full((1, 3, 1, 2), 0.5), torch.tensor([0.0, 1.0]).expand(1, 3, 1, 2)
    expected = math.exp(-1 / 50) / (50 * math.pi) / 2  # two ordered pairs, |y_i - y_j|^2 / 2, two pixels
    np.testing.assert_allclose(float(feature_similarity_loss(flat, cam)), expected, rtol=1e-5)
    np.testing.assert_allclose(float(feature_similarity_loss(edge, cam)), -expected, rtol=1e-5)


def test_constant_maps_cost_nothing(photographs):
    image = pictures(photographs, 30, 40)
    value, grad = value_and_grad(lambda y: feature_similarity_loss(image, y), torch.full((2, 3, 30, 40), 0.7))
    assert abs(value) < 1e-10 and grad.abs().max() < 1e-9


@pytest.mark.parametrize("turn", [lambda t: t.flip(-1), lambda t: t.flip(-2), lambda t: t.transpose(2, 3)])
def test_turned_pictures_give_the_same_similarity(photographs, turn):
    image, cam = pictures(photographs, 33, 45), smooth_maps(2, 33, 45)
    expected = float(feature_similarity_loss(image, cam))
    np.testing.assert_allclose(float(feature_similarity_loss(turn(image), turn(cam))), expected, rtol=1e-5)


def test_image_is_resized_clipped_and_gets_no_gradient(photographs):
    image, cam = (pictures(photographs, 50, 60) * 1.4 - 0.2).requires_grad_(), smooth_maps(2, 14, 15).requires_grad_()
    value = feature_similarity_loss(image, cam)
    value.backward()
    assert image.grad is None and cam.grad.abs().max() > 0
    small = resize(image.detach(), (14, 15)).clamp(0, 1)
    np.testing.assert_array_equal(value.detach(), feature_similarity_loss(small, cam).detach())


def test_no_second_derivative(photographs):
    cam = smooth_maps(1, 4, 5).requires_grad_()
    loss = torch.ones((), requires_grad=True) * feature_similarity_loss(pictures(photographs, 4, 5), cam)
    (grad,) = torch.autograd.grad(loss, cam, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_half_precision_and_autocast_are_computed_in_single(photographs):
    image, cam = pictures(photographs, 20, 30), smooth_maps(2, 20, 30).bfloat16()
    expected, expected_grad = value_and_grad(lambda y: feature_similarity_loss(image, y), cam.float())
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            value, grad = value_and_grad(lambda y: feature_similarity_loss(image, y), cam)
        assert value == expected and grad.dtype == torch.bfloat16
        np.testing.assert_array_equal(grad.float(), expected_grad.bfloat16().float())


# ---- importance sampling


def test_published_draws(golden):
    z = golden("hfpl_probutils")
    prob, logits = torch.from_numpy(z["sample.probs"]), torch.from_numpy(z["sample.logits"])
    index = sample_pixels(prob, 10, torch.Generator().manual_seed(7))
    np.testing.assert_array_equal(index[0], z["sample.indices_seed7_n10"])
    np.testing.assert_array_equal(logits.flatten(2).gather(2, index), z["sample.out_seed7_n10_logits"])
    np.testing.assert_array_equal(prob.flatten(2).gather(2, index), z["sample.out_seed7_n10_probs"])


def test_pixels_are_drawn_as_often_as_their_share(golden):
    z = golden("hfpl_probutils")
    index = sample_pixels(torch.from_numpy(z["sample.probs"]), 200_000, torch.Generator().manual_seed(123))
    frequency = np.stack([np.bincount(row, minlength=20) for row in index[0].numpy()]) / 200_000
    expected = z["sample.expected_freq"]
    assert (abs(frequency - expected) <= 4 * np.sqrt(expected * (1 - expected) / 200_000)).all()
    np.testing.assert_allclose(frequency, z["sample.freq_200k"], atol=1e-6)


def test_importance_sampling_draws_by_the_sigmoid():
    """Logits of -30 are drawn by the 1e-5 alone: two pixels at 0 take the rest."""
    logits = torch.full((1, 1, 5, 5), -30.0)
    logits[0, 0, 2, 3] = logits[0, 0, 4, 0] = 0
    drawn = importance_sampling(logits, 200_000, torch.Generator().manual_seed(0))
    expected = 23e-5 / (1 + 25e-5)
    assert abs((drawn == -30).sum() / 200_000 - expected) <= 4 * math.sqrt(expected / 200_000)


def test_importance_sampling_has_gradient_at_drawn_pixels_only():
    logits = normal(2, 3, 4, 5).requires_grad_()
    importance_sampling(logits, 6, torch.Generator().manual_seed(1)).sum().backward()
    index = sample_pixels(logits.detach().sigmoid() + 1e-5, 6, torch.Generator().manual_seed(1))
    expected = torch.zeros(2, 3, 20).scatter_add(2, index, torch.ones(2, 3, 6))
    np.testing.assert_array_equal(logits.grad.flatten(2), expected)


def test_generator_alone_decides():
    logits, state = normal(1, 2, 6, 6), torch.get_rng_state()
    first, again, other = (importance_sampling(logits, 8, torch.Generator().manual_seed(s)) for s in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


# ---- classification


@pytest.mark.parametrize("trailing", [(), (7,)])
def test_soft_margin_is_that_of_torch(trailing):
    logits, label = normal(3, 4, *trailing) * 3, (random(3, 4) < 0.4).float()
    expected = F.multilabel_soft_margin_loss(logits, label.view(3, 4, *(1,) * len(trailing)))
    for labels in (label, label.bool(), label.long()):
        np.testing.assert_allclose(float(multilabel_soft_margin(logits, labels)), float(expected), rtol=1e-6)


def test_pos_weight_makes_both_halves_alike():
    labels = torch.tensor([[1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 0]])
    weight = pos_weight_for(labels)
    np.testing.assert_allclose(weight, [3, 1, 1 / 3])
    terms = [multilabel_soft_margin(torch.zeros(4, 1), labels[:, [c]], weight[[c]]) for c in (0, 2)]
    np.testing.assert_allclose(terms, [6 * math.log(2) / 4, 2 * math.log(2) / 4], rtol=1e-6)
    logits = normal(4, 3, 5)
    each = torch.stack([multilabel_soft_margin(logits[..., i], labels, weight) for i in range(5)])
    np.testing.assert_allclose(float(multilabel_soft_margin(logits, labels, weight)), float(each.mean()), rtol=1e-6)


# ---- maps


def test_published_max_norm(golden):
    z = golden("hfpl_probutils")
    cam = torch.from_numpy(z["max_norm.in"])
    np.testing.assert_allclose(max_norm(cam), z["max_norm.out4d"], atol=1e-7)
    np.testing.assert_allclose(max_norm(cam[0]), z["max_norm.out3d"], atol=1e-7)


def test_max_norm_and_its_gradient_through_min_and_max():
    cam = (random(2, 3, 4, 5) + 0.5).double().requires_grad_()
    normalised = max_norm(cam)
    np.testing.assert_allclose(normalised.flatten(2).amin(2).detach(), 0)
    np.testing.assert_allclose(normalised.flatten(2).amax(2).detach(), 1, atol=1e-4)
    assert torch.autograd.gradcheck(max_norm, cam)
    assert not max_norm(torch.full((2, 3, 4), 5.0)).any() and not max_norm(-cam).any()


def test_published_max_onehot(golden):
    z = golden("hfpl_probutils")
    np.testing.assert_array_equal(max_onehot(torch.from_numpy(z["max_norm.in"])), z["max_onehot.out"])


def test_max_onehot_keeps_its_input():
    cam = random(2, 4, 5, 6)
    before = cam.clone()
    kept = max_onehot(cam)
    assert torch.equal(cam, before) and torch.equal(kept[:, :1], cam[:, :1])
    assert ((kept[:, 1:] > 0).sum(1) == 1).all() and torch.equal(kept[:, 1:].amax(1), cam[:, 1:].amax(1))


def test_published_adaptive_min_pooling(golden):
    z = golden("hfpl_probutils")
    loss = adaptive_min_pooling_loss(torch.from_numpy(z["adaptive_min_pooling.in"]))
    np.testing.assert_allclose(float(loss), z["adaptive_min_pooling.out"], rtol=1e-6)


@pytest.mark.parametrize("size", [(6, 7), (1, 1), (1, 3)])
def test_adaptive_min_pooling_of_sorted_pixels(size):
    cam = normal(3, 2, *size)
    lowest = np.sort(cam.amax(1).flatten(1).numpy())[:, : max(size[0] * size[1] // 4, 1)]
    np.testing.assert_allclose(float(adaptive_min_pooling_loss(cam)), lowest.clip(0).mean(), rtol=1e-6)


def test_er_is_the_mean_difference():
    cam1, cam2 = random(2, 3, 4, 5), random(2, 3, 4, 5, seed=1)
    np.testing.assert_allclose(er_loss(cam1, cam2), abs(cam1.numpy() - cam2.numpy()).mean(), rtol=1e-6)


@pytest.mark.parametrize("share", [0.001, 0.2, 1])
def test_ecr_of_sorted_differences(share):
    cam, cam_rv = random(2, 4, 5, 6).requires_grad_(), random(2, 4, 5, 6, seed=1).requires_grad_()
    loss = ecr_loss(cam, cam_rv, share)
    loss.backward()
    assert cam.grad is None and cam_rv.grad.count_nonzero() == 2 * max(int(120 * share), 1)
    difference = (max_onehot(cam) - cam_rv).abs().flatten(1).detach().numpy()
    greatest = np.sort(difference)[:, ::-1][:, : max(int(120 * share), 1)]
    np.testing.assert_allclose(loss.item(), greatest.mean(), rtol=1e-6)


@pytest.mark.parametrize("padding", [3, 40])
def test_ecr_of_channels_left_out(padding):
    """Channels of zeros may be left out, whether or not the greatest differences reach into them."""
    cam, cam_rv = random(2, 3, 5, 6), random(2, 3, 5, 6, seed=1)
    whole = (F.pad(maps, (0, 0, 0, 0, 0, padding)) for maps in (cam, cam_rv))
    np.testing.assert_allclose(float(ecr_loss(cam, cam_rv, channels=3 + padding)), float(ecr_loss(*whole)), rtol=1e-6)


# ---- the whole step


def plain_step(first, second, image, label, weights, generator):
    """The published training step, maps of all classes at full size."""
    (cam1, rv1, logits1), (cam2, rv2, _) = first, second
    full = F.pad(label, (1, 0), value=1)[..., None, None]
    size = cam2.shape[2:]
    parts = {}
    for view, cam, rv in (("1", cam1, rv1), ("2", cam2, rv2)):
        parts["cls" + view] = F.multilabel_soft_margin_loss(cam.mean((2, 3))[:, 1:], label)
        highest = (rv * full)[:, 1:].max(1).values.flatten(1)
        parts["rvmin" + view] = highest.sort(1).values[:, : highest.shape[1] // 4].relu().mean()
    if weights.isl_weight:
        drawn = importance_sampling(logits1[:, 1:], weights.isl_samples, generator)
        parts["isl"] = F.multilabel_soft_margin_loss(drawn, label[..., None])
        parts["cls1"] = parts["cls1"] * (1 - weights.isl_weight) + parts["isl"] * weights.isl_weight
    norm1, norm2, norm_rv1, norm_rv2 = (resize(max_norm(m), size) * full for m in (cam1, cam2, rv1, rv2))
    parts["er"] = (norm1 - norm2)[:, 1:].abs().mean()
    onehot1, onehot2 = (max_onehot(with_background(m[:, 1:].detach())) for m in (norm1, norm2))
    count = int(norm1[0].numel() * 0.2)
    for name, onehot, rv in (("ecr1", onehot2, norm_rv1), ("ecr2", onehot1, norm_rv2)):
        parts[name] = (onehot - rv).abs().flatten(1).sort(1, descending=True).values[:, :count].mean()
    total = (parts["cls1"] + parts["cls2"] + parts["rvmin1"] + parts["rvmin2"]) / 2
    total = total + parts["er"] + parts["ecr1"] + parts["ecr2"]
    if weights.fsl_weight:
        score = with_background((max_norm(logits1) * full)[:, 1:])
        parts["fsl"] = every_pair(resize(image, score.shape[2:]), score, weights.fsl_mu, weights.fsl_sigma)
        total = total + weights.fsl_weight * parts["fsl"]
    return parts | {"total": total}


LABELS = {
    "one to three": [[0, 1, 0, 0, 0], [1, 0, 0, 1, 1]],
    "an image without": [[0, 0, 0, 0, 0], [0, 0, 0, 0, 1]],
    "none": [[0] * 5] * 2,
    "all": [[1] * 5] * 2,
}
SETTINGS = [SEAMWeights(), SEAMWeights(0, 10, 0), SEAMWeights(1, 3, 0.2, 1.0, None), SEAMWeights(0.5, 3, 0)]


@pytest.mark.parametrize("rows", LABELS.values(), ids=list(LABELS))
@pytest.mark.parametrize("weights", SETTINGS, ids=str)
def test_step_equals_the_plain_one(photographs, rows, weights):
    """Every part and every gradient; maps at the size of the views, and at the grid."""
    image, label, sizes = pictures(photographs, 60, 70), torch.tensor(rows).float(), ((60, 70), (18, 21))
    grids = [normal(2, 6, 8, 9), random(2, 6, 8, 9), normal(2, 6, 3, 3, seed=1), random(2, 6, 3, 3, seed=1)]

    def run(step, full_size, **options):
        leaves = [grid.double().requires_grad_() for grid in grids]
        shown = iter(resize(m, size) for m, size in zip(leaves, np.repeat(sizes, 2, 0).tolist(), strict=True))
        a, b, c, d = shown if full_size else leaves
        generator = torch.Generator().manual_seed(3)
        parts = step(
            (a, b, leaves[0]), (c, d, leaves[2]), image, label, weights=weights, generator=generator, **options
        )
        parts["total"].backward()
        return {name: value.item() for name, value in parts.items()}, [leaf.grad for leaf in leaves]

    expected, expected_grads = run(plain_step, True)
    assert ("isl" in expected, "fsl" in expected) == (weights.isl_weight > 0, weights.fsl_weight > 0)
    for parts, grads in (run(seam_loss, True), run(seam_loss, False, sizes=sizes)):
        assert parts.keys() == expected.keys()
        np.testing.assert_allclose([parts[name] for name in expected], list(expected.values()), rtol=1e-5, atol=1e-9)
        for grad, wanted in zip(grads, expected_grads, strict=True):
            np.testing.assert_allclose(grad, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()) + 1e-12)


def test_half_precision_step_is_computed_in_single(photographs):
    image, label = pictures(photographs, 60, 70), torch.tensor(LABELS["one to three"])
    grids = [normal(2, 6, 8, 9), random(2, 6, 8, 9), normal(2, 6, 3, 3, seed=1), random(2, 6, 3, 3, seed=1)]
    cam1, rv1, cam2, rv2 = (grid.bfloat16() for grid in grids)

    def total(*maps, autocast):
        a, b, c, d = maps
        generator = torch.Generator().manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            sizes = ((60, 70), (18, 21))
            return float(seam_loss((a, b, a), (c, d), image, label, generator=generator, sizes=sizes)["total"])

    expected = total(cam1.float(), rv1.float(), cam2.float(), rv2.float(), autocast=False)
    assert total(cam1, rv1, cam2, rv2, autocast=True) == expected


def test_published_tensors_of_a_step(golden):
    z = golden("hfpl_train_cam")
    tensors = {name: torch.from_numpy(z[name]) for name in z.files if z[name].dtype.kind == "f"}
    logits, label = tensors["logits1"], tensors["label"]
    generator = torch.Generator().manual_seed(1234)
    np.testing.assert_array_equal(sample_pixels(logits[:, 1:].sigmoid() + 1e-5, 10, generator), z["sample_indices"])
    drawn = importance_sampling(logits[:, 1:], 10, torch.Generator().manual_seed(1234))
    np.testing.assert_array_equal(drawn, z["pred_is1"])
    np.testing.assert_allclose(float(multilabel_soft_margin(drawn, label)), z["loss_cls_is1"], rtol=1e-6)
    np.testing.assert_allclose(
        float(multilabel_soft_margin(tensors["label2"][:, 1:, 0, 0], label)), z["loss_cls2"], rtol=1e-6
    )

    score = with_background((max_norm(logits) * F.pad(label, (1, 0))[..., None, None])[:, 1:])
    np.testing.assert_allclose(score, z["norm_cam1_fsl"], atol=1e-6)
    np.testing.assert_allclose(float(feature_similarity_loss(tensors["img1_s_fsl"], score)), z["loss_fs1"], rtol=1e-5)

    cam = resize(max_norm(resize(logits, (96, 96))), (28, 28)) * F.pad(label, (1, 0))[..., None, None]
    np.testing.assert_allclose(max_onehot(with_background(cam[:, 1:])), z["cam1_in_ecr"], atol=1e-6)
    for name, cam, cam_rv in (("1", "cam2_in_ecr", "cam_rv1_in_ecr"), ("2", "cam1_in_ecr", "cam_rv2_in_ecr")):
        np.testing.assert_allclose(float(ecr_loss(tensors[cam], tensors[cam_rv])), z[f"loss_ecr{name}"], rtol=1e-5)


@pytest.fixture(scope="module")
def published_net(golden):
    """The network of the published step, dropout off."""
    from net.resnet38 import ResNet38, published
    from net.seam import SEAMNet

    arrays = golden.weights(golden("hfpl_train_cam"))
    facts, state = published({name: torch.from_numpy(array) for name, array in arrays.items()})
    net = SEAMNet(ResNet38(), facts)
    net.load_state_dict(state)
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout2d):
            module.p = 0.0
    return net.train()


@pytest.mark.parametrize(
    ("name", "off", "absent"),
    [
        ("hfpl_train_cam", {}, set()),
        ("hfpl_train_cam_lw0", {"isl_weight": 0}, {"isl"}),
        ("hfpl_train_cam_nofsl", {"fsl_weight": 0}, {"fsl"}),
    ],
)
def test_published_step(golden, published_net, name, off, absent):
    """Every part of the loss, and what it does to the network: gradient norms, and entries where they are stored."""
    from net.network import parameter_groups

    z, net = golden(name), published_net
    image = torch.from_numpy(z["img1"]) * STD + MEAN
    views = (net(255 * view) for view in (image, resize(image, (28, 28))))
    generator = torch.Generator().manual_seed(1234)
    parts = seam_loss(*views, image, torch.from_numpy(z["label"]), SEAMWeights(**off), generator)
    assert parts.keys() == PARTS.keys() - absent
    for part, value in parts.items():
        np.testing.assert_allclose(value.item(), z[PARTS[part]], rtol=1e-4, err_msg=part)

    net.zero_grad()
    parts["total"].backward()
    gradients = {key.removeprefix("backbone."): p.grad for key, p in net.named_parameters() if p.grad is not None}
    assert gradients.keys() == set(z["grad_norm_names"])
    norms = [gradients[key].norm() for key in z["grad_norm_names"]]
    np.testing.assert_allclose(norms, z["grad_norms"], rtol=1e-3)
    groups = ([p.grad.norm() for p in group if p.grad is not None] for group in parameter_groups(net))
    np.testing.assert_allclose([math.hypot(*group) for group in groups], z["group_grad_norms"], rtol=1e-3)
    for key in (key for key in z.files if key.startswith("grad.")):
        stored = z[key]
        gradient = gradients[key.removeprefix("grad.").removesuffix("_sub")].flatten()
        gradient = gradient[:: gradient.numel() // len(stored)]
        np.testing.assert_allclose(gradient, stored, rtol=0, atol=1e-3 * abs(stored).max())


# ---- use from elsewhere, bad input

ELSEWHERE = """
import sys, torch, losses
before = set(sys.modules)
features, rgb, label = torch.rand(2, 8, 14, 14), torch.rand(2, 3, 112, 112), torch.tensor([[1, 0, 0], [0, 1, 1]])
net = torch.nn.Conv2d(8, 3, 1)
cam = net(features)
loss = losses.multilabel_soft_margin(cam.mean((2, 3)), label)
loss = 0.8 * loss + 0.2 * losses.multilabel_soft_margin(losses.importance_sampling(cam), label)
score = losses.with_background(losses.max_norm(cam) * label[..., None, None])
loss = loss + losses.feature_similarity_loss(rgb, score)
loss.backward()
assert torch.isfinite(loss) and net.weight.grad.abs().max() > 0
assert not {name.partition(".")[0] for name in sys.modules} & {"pgt", "misc", "net", "step", "data", "numba"}
"""


def test_one_file_is_all_another_project_needs(tmp_path):
    shutil.copy(Path(losses.__file__), tmp_path)
    (tmp_path / "train.py").write_text(ELSEWHERE)
    subprocess.run([sys.executable, "train.py"], cwd=tmp_path, check=True)


MAPS, PICTURE, LABEL = torch.rand(2, 4, 5, 6), torch.rand(2, 3, 5, 6), torch.ones(2, 3)
VIEW = (MAPS, MAPS, MAPS)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (multilabel_soft_margin, (torch.zeros(2, 3), LABEL[:, :2]), "label is"),
        (multilabel_soft_margin, (torch.zeros(2, 3), LABEL[0]), "label is"),
        (multilabel_soft_margin, (torch.zeros(0, 3), LABEL[:0]), "label is"),
        (multilabel_soft_margin, (torch.zeros(2, 3), LABEL, torch.ones(2)), "pos_weight is"),
        (pos_weight_for, (LABEL[0],), "labels must be"),
        (pos_weight_for, (LABEL[:0],), "labels must be"),
        (max_norm, (MAPS[0, 0, 0],), "cam must be"),
        (max_norm, (MAPS[..., :0],), "cam must be"),
        (with_background, (MAPS[0],), "cam must be"),
        (with_background, (MAPS[:, :0],), "cam must be"),
        (max_onehot, (MAPS[:, :1],), "cam must be"),
        (adaptive_min_pooling_loss, (MAPS[0],), "cam must be"),
        (er_loss, (MAPS, MAPS[..., 1:]), "one shape"),
        (ecr_loss, (MAPS, MAPS[:1]), "one shape"),
        (ecr_loss, (MAPS, MAPS, 0.0), "share must be"),
        (ecr_loss, (MAPS, MAPS, 1.5), "share must be"),
        (sample_pixels, (MAPS[0],), "prob must be"),
        (sample_pixels, (MAPS, 0), "num_samples must be"),
        (importance_sampling, (MAPS[0],), "logits must be"),
        (importance_sampling, (MAPS, 2.5), "num_samples must be"),
        (feature_similarity_loss, (PICTURE[0], MAPS), "image must be"),
        (feature_similarity_loss, (PICTURE, MAPS[0]), "cam must be"),
        (feature_similarity_loss, (PICTURE[:1], MAPS), "1 images but maps of 2"),
        (feature_similarity_loss, (PICTURE * 255, MAPS), "colours in 0..1"),
        (feature_similarity_loss, (PICTURE, MAPS, math.nan), "mu must be"),
        (feature_similarity_loss, (PICTURE, MAPS, 2.5, 0.0), "above 0"),
        (feature_similarity_loss, (PICTURE, MAPS, 2.5, math.nan), "above 0"),
        (feature_similarity_loss, (PICTURE, MAPS, 2.5, 5.0, -1), "above 0"),
        (feature_similarity_loss, (PICTURE, MAPS, 2.5, 5.0, None, 0.5), "px and py"),
        (feature_similarity_loss, (PICTURE, MAPS, 2.5, 5.0, None, 1, 0), "px and py"),
        (seam_loss, (VIEW, VIEW, PICTURE, LABEL[:, :2]), "label is"),
        (seam_loss, (VIEW, VIEW, PICTURE, LABEL[:1]), "label is"),
        (seam_loss, (VIEW, (MAPS, MAPS[:, 1:]), PICTURE, LABEL), "one shape"),
        (seam_loss, (VIEW, VIEW, PICTURE[:1], LABEL), "1 images but maps of 2"),
        (SEAMWeights, (-0.1,), "isl_weight is -0.1: give a number at least 0 and at most 1"),
        (SEAMWeights, (1.1,), "isl_weight is 1.1"),
        (SEAMWeights, (0.2, 0), "isl_samples is 0"),
        (SEAMWeights, (0.2, 10, -1), "fsl_weight is -1"),
        (SEAMWeights, (0.2, 10, 1, 2.5, 0.0), "fsl_sigma is 0.0: give a number above 0"),
    ],
)
def test_bad_input_is_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)


def test_generalized_cross_entropy():
    """Against its formula, pixel by pixel; q near 0 is cross entropy, q 1 the mean absolute error; void counts not."""
    logits, label = normal(2, 4, 5, 6), torch.from_numpy(np.random.default_rng(0).choice([0, 1, 2, 3, 255], (2, 5, 6)))
    sure = label != 255
    p = logits.softmax(1).gather(1, label.clamp(max=3)[:, None])[:, 0][sure]
    for q in (0.3, 0.7, 1.0):
        value, grad = value_and_grad(lambda x: generalized_cross_entropy(x, label, q, 255), logits)  # noqa: B023
        np.testing.assert_allclose(value, ((1 - p**q) / q).mean(), rtol=1e-5)
        assert grad.abs().sum(1)[sure].min() > 0 and not grad.movedim(1, -1)[~sure].any()
    near_zero = generalized_cross_entropy(logits, label, 1e-4, 255)
    np.testing.assert_allclose(near_zero, F.cross_entropy(logits, label, ignore_index=255), rtol=1e-3)
    value, grad = value_and_grad(lambda x: generalized_cross_entropy(x, torch.full_like(label, 255), 0.7, 255), logits)
    assert value == 0 and not grad.any()


def test_weights_are_the_published_ones():
    assert dataclasses.asdict(SEAMWeights()) == {
        "isl_weight": 0.2,
        "isl_samples": 10,
        "fsl_weight": 1.0,
        "fsl_mu": 2.5,
        "fsl_sigma": 5.0,
    }
