"""Pairs, labels, loss and random walk against the published numbers and plain dense matrices."""

import random

import numpy as np
import pytest
import torch

from pgt.affinity import (
    IGNORE,
    Transition,
    _power_coefficients,
    affinity_labels,
    affinity_loss,
    background_score,
    block_mean,
    confident_label,
    effective_radius,
    pair_directions,
    pair_indices,
    random_walk,
    transition,
    walk_labels,
)

PATHS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["kernel", "torch"])
SIZES = [(9, 14), (14, 9), (11, 11), (5, 6), (4, 30), (3, 4), (1, 7), (7, 1), (1, 1), (23, 40)]
GOLDEN_NETS = {
    "coffee_101x151_to96x128": (12, 16),
    "chelsea_141x187_to104x96": (13, 12),
    "coffee_101x151_to56x72": (7, 9),
}
KINDS = ("bg", "fg", "neg")


def naive_pairs(radius, size):
    """{(from, to)} of pixels whose whole neighbourhood, the lower half of a disk, lies on the grid."""
    reach = max(min(radius, (min(size) - 1) // 2) - 1, 0)
    pairs = set()
    for y in range(size[0] - reach):
        for x in range(reach, size[1] - reach):
            for dy in range(reach + 1):
                for dx in range(-reach, reach + 1):
                    if (dy, dx) > (0, 0) and dy * dy + dx * dx < (reach + 1) ** 2:
                        pairs.add((y * size[1] + x, (y + dy) * size[1] + x + dx))
    return pairs


def random_affinity(size, radius=5, seed=0, dtype=torch.float32):
    """Of a smooth map with an edge, so that affinities run from hardly any to almost 1."""
    start, end = pair_indices(radius, size)
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(size, generator=generator, dtype=torch.float64) * 0.2
    values[:, size[1] // 2 :] += 2
    values = values.flatten()
    return torch.exp(-(values[start] - values[end]).abs()).to(dtype)


def random_cam(channels, size, seed=0, dtype=torch.float32):
    return torch.rand((channels, *size), generator=torch.Generator().manual_seed(seed)).to(dtype)


def dense_transition(affinity, size, radius=5, beta=8):
    """T (n,n) float64, as published: both halves and the diagonal, to the power, over the column sums."""
    start, end = (index.numpy() for index in pair_indices(radius, size))
    matrix = np.eye(size[0] * size[1])
    for row, far in zip(affinity.double().numpy(), end, strict=True):
        matrix[start, far] = matrix[far, start] = row
    matrix **= beta
    return matrix / matrix.sum(0)


def dense_walk(cam, transition_matrix, exp_times):
    for _ in range(exp_times):
        transition_matrix = transition_matrix @ transition_matrix
    return (cam.double().flatten(1).numpy() @ transition_matrix).reshape(cam.shape)


# Pairs


def test_published_pairs(golden):
    z = golden("hfpl_resnet38_aff")
    for name, radius, size in (("r5_12x16", 5, (12, 16)), ("r3_7x9", 3, (7, 9)), ("r3_7x9", 5, (7, 9))):
        start, end = pair_indices(radius, size)
        assert start.dtype == end.dtype == torch.int64
        np.testing.assert_array_equal(start, z[f"pairs_{name}.from"])
        np.testing.assert_array_equal(end.flatten(), z[f"pairs_{name}.to"])


def test_published_directions(golden):
    z = golden("hfpl_aff_label")
    assert pair_directions(5) == [tuple(step) for step in z["c16r5.search_dist"].tolist()]
    assert pair_directions(3) == [tuple(step) for step in z["c12r3.search_dist"].tolist()]
    assert len(pair_directions(5)) == 34 and pair_directions(1) == pair_directions(0) == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("radius", [1, 2, 3, 5, 8])
def test_pairs_are_those_of_whole_neighbourhoods(radius, size):
    start, end = pair_indices(radius, size)
    assert end.shape == (len(pair_directions(effective_radius(radius, size))), len(start)) and len(start)
    listed = list(zip(start.expand_as(end).flatten().tolist(), end.flatten().tolist(), strict=True))
    assert len(listed) == len(set(listed)) and set(listed) == naive_pairs(radius, size)


def test_small_grids_have_a_smaller_radius():
    assert [effective_radius(5, (side, 50)) for side in (1, 2, 3, 4, 5, 7, 10, 11, 12)] == [0, 0, 1, 1, 2, 3, 4, 5, 5]
    assert pair_indices(5, (4, 9))[1].shape == (0, 36)


@pytest.mark.parametrize("radius, size, message", [(0, (9, 9), "radius"), (-2, (9, 9), "radius"), (5, (0, 9), "grid")])
def test_bad_radius_and_grid(radius, size, message):
    with pytest.raises(ValueError, match=message):
        pair_indices(radius, size)


# Labels


@pytest.mark.parametrize("name, radius", [("c16r5", 5), ("c12r3", 3)])
def test_published_labels(golden, name, radius):
    z = golden("hfpl_aff_label")
    for kind, label in zip(KINDS, affinity_labels(z[f"{name}.label"], radius), strict=True):
        assert label.dtype == torch.float32
        np.testing.assert_array_equal(label, z[f"{name}.{kind}"], err_msg=kind)


def cropped(picture, crop, top, left, flip=False):
    """(H,W,C) -> (crop,crop,C) float32; offsets below 0 lie in the picture, others in the crop, zero around it."""
    out = np.zeros((crop, crop, picture.shape[2]), np.float32)
    part = picture[max(-top, 0) :, max(-left, 0) :][: crop - max(top, 0), : crop - max(left, 0)]
    out[max(top, 0) :, max(left, 0) :][: part.shape[0], : part.shape[1]] = part
    return out[:, ::-1] if flip else out


def random_offset(side, crop):
    return -random.randrange(side - crop + 1) if side > crop else random.randrange(crop - side + 1)


@pytest.mark.parametrize("crop", [96, 176])
def test_published_labels_of_maps(golden, crop):
    z = golden("hfpl_aff_label")
    key = f"synthetic.crop{crop}"
    box = z[f"{key}.box_cont_top_bottom_left_right_img_top_bottom_left_right"].tolist()
    maps = [cropped(z[f"synthetic.{name}"].transpose(1, 2, 0), crop, box[0] - box[4], box[2] - box[6])
            for name in ("la", "ha")]  # fmt: skip
    label = confident_label(*(block_mean(torch.from_numpy(m.transpose(2, 0, 1))) for m in maps))
    np.testing.assert_array_equal(label, z[f"{key}.label"])
    assert {0, 1, 2, IGNORE} == set(label.unique().tolist())
    for kind, pairs in zip(KINDS, affinity_labels(label), strict=True):
        np.testing.assert_array_equal(pairs, z[f"{key}.{kind}"], err_msg=kind)


@pytest.mark.parametrize("name, seed", [("coffee_101x151", 100), ("chelsea_141x187", 101)])
@pytest.mark.parametrize("crop", [64, 160])
def test_published_training_examples(golden, name, seed, crop):
    z, key = golden("hfpl_aff_label"), f"chain.{name}.crop{crop}.seed{seed}"
    picture = golden.image(name)
    random.seed(seed)
    left, top = random_offset(picture.shape[1], crop), random_offset(picture.shape[0], crop)
    image = cropped(picture, crop, top, left, flip=bool(random.getrandbits(1))) / 255
    image = (image - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    np.testing.assert_allclose(image.transpose(2, 0, 1)[:, ::4, ::4], z[f"{key}.img_sub"], atol=1e-6)
    np.testing.assert_allclose([image.mean(), image.std()], z[f"{key}.img_mean_std"], atol=1e-5)
    labels = affinity_labels(z[f"{key}.label"])
    for kind, pairs in zip(KINDS, labels, strict=True):
        if crop == 64:  # the original keeps the radius and is left without pixels; ours is that of the network's pairs
            assert z[f"{key}.{kind}"].size == 0 and pairs.shape == pair_indices(5, (8, 8))[1].shape == (12, 24)
        else:
            np.testing.assert_array_equal(pairs, z[f"{key}.{kind}"], err_msg=kind)
    assert sum(label.sum() for label in labels) > 0


@pytest.mark.parametrize("size", SIZES)
def test_labels_pair_by_pair(size):
    label = np.random.default_rng(1).choice(np.uint8([0, 0, 1, 2, IGNORE]), size)
    start, end = pair_indices(4, size)
    near, far = label.reshape(-1)[start][None], label.reshape(-1)[end]
    expected = np.zeros((3, *end.shape), np.float32)
    for j in range(len(end)):
        for m in range(len(start)):
            pair = {int(near[0, m]), int(far[j, m])}
            if IGNORE not in pair:
                expected[2 if len(pair) == 2 else 0 if pair == {0} else 1, j, m] = 1
    for given in (label, torch.from_numpy(label), label.astype(np.int64)):
        np.testing.assert_array_equal(torch.stack(affinity_labels(given, 4)), expected)


def test_confident_label_rules():
    la = torch.tensor([[0.1, 0.9, 0.1, 0.0, 0.5, 0.0], [0.9, 0.1, 0.9, 0.0, 0.5, 1e-6], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    ha = torch.tensor([[0.1, 0.2, 0.8, 0.0, 0.0, 0.0], [0.7, 0.1, 0.1, 0.0, 0.5, 0.0], [0.1, 0.7, 0.1, 0.0, 0.0, 0.0]])
    kept = la.clone()
    label = confident_label(la[:, None], ha[:, None])
    # both a class; la's background; ha's background and la's class; no score; la's tie, so background; noise
    assert label.dtype == torch.uint8 and label.tolist() == [[1, IGNORE, 0, IGNORE, IGNORE, IGNORE]]
    assert torch.equal(la, kept)
    background_only = torch.ones(1, 2, 2)
    assert confident_label(background_only, background_only).tolist() == [[0, 0], [0, 0]]
    for bad in (torch.zeros(2, 1, 5), torch.zeros(3, 6), torch.zeros(0, 1, 6)):
        with pytest.raises(ValueError, match="background first"):
            confident_label(la[:, None] if bad.ndim == 3 and len(bad) else bad, bad)
    with pytest.raises(ValueError, match=r"label must be \(h,w\)"):
        affinity_labels(np.zeros((2, 9, 9), np.uint8))


# Loss


def naive_loss(affinity, bg, fg, neg):
    a = affinity.numpy().astype(np.float64)
    bg, fg, neg = (label.numpy().astype(bool) for label in (bg, fg, neg))
    parts = [-np.log(a[bg] + 1e-5), -np.log(a[fg] + 1e-5), -np.log(1 + 1e-5 - a[neg])]
    means = [part.mean() if part.size else 0 for part in parts]
    return means[0] / 4 + means[1] / 4 + means[2] / 2


def training_batch():
    coarse = np.random.default_rng(2).choice(np.uint8([0, 0, 1, 2, IGNORE]), (5, 6))
    labels = affinity_labels(np.kron(coarse, np.ones((4, 4), np.uint8)))
    affinity = torch.rand((2, *labels[0].shape), generator=torch.Generator().manual_seed(0))
    affinity[0, 0, :4] = torch.tensor([0.0, 1.0, 1.0, 0.0])
    return affinity, [torch.stack([label, label.flip(1)]) for label in labels]


def test_loss_is_the_balanced_mean_over_its_pairs():
    affinity, labels = training_batch()
    assert affinity_loss(affinity, *labels) == pytest.approx(naive_loss(affinity, *labels), rel=1e-5)
    empty = torch.zeros_like(affinity)
    for kind in range(3):  # without one kind of pair its part is 0, not NaN
        some = [empty if i == kind else label for i, label in enumerate(labels)]
        assert affinity_loss(affinity, *some) == pytest.approx(naive_loss(affinity, *some), rel=1e-5)
    assert affinity_loss(affinity, empty, empty, empty) == 0
    none = torch.zeros(2, 0, 36)
    assert affinity_loss(none, none, none, none) == 0


def test_loss_draws_alike_pairs_together_and_others_apart():
    affinity, labels = training_batch()
    affinity.clamp_(0.05, 0.95).requires_grad_()
    affinity_loss(affinity, *labels).backward()
    bg, fg, neg = (label.bool() for label in labels)
    assert (affinity.grad[bg | fg] < 0).all() and (affinity.grad[neg] > 0).all()
    assert not affinity.grad[~(bg | fg | neg)].any()


def test_loss_needs_a_label_a_pair():
    affinity = torch.full((1, 34, 8), 0.5)
    with pytest.raises(ValueError, match="but neg"):
        affinity_loss(affinity, affinity, affinity, affinity[0])


# Random walk


@PATHS
@pytest.mark.parametrize("name", GOLDEN_NETS)
def test_transition_of_the_published_network(golden, name, dtype):
    z, size = golden("hfpl_resnet38_aff"), GOLDEN_NETS[name]
    matrix = z[f"{name}.aff_dense"].astype(np.float64) ** 8
    matrix /= matrix.sum(0)
    affinity, identity = torch.from_numpy(z[f"{name}.aff_sparse"][0]), torch.eye(len(matrix), dtype=dtype)
    for exp_times in (0, 1, 6):
        walked = random_walk(identity.view(-1, *size), affinity, exp_times=exp_times).flatten(1)
        np.testing.assert_allclose(walked, np.linalg.matrix_power(matrix, 2**exp_times), atol=1e-6)


@PATHS
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("exp_times", [0, 1, 3, 6])
def test_walk_is_that_of_the_dense_power(size, exp_times, dtype):
    for radius, beta in ((5, 8), (3, 2.5)):
        affinity, cam = random_affinity(size, radius), random_cam(3, size, dtype=dtype)
        walked = random_walk(cam, affinity, radius, beta, exp_times)
        expected = dense_walk(cam, dense_transition(affinity, size, radius, beta), exp_times)
        assert walked.shape == cam.shape and walked.dtype == dtype
        np.testing.assert_allclose(walked, expected, atol=1e-6)


@pytest.mark.parametrize("exp_times", [2, 4, 5, 7, 8, np.int64(10), 14])
def test_any_number_of_steps(exp_times):
    size = (12, 15)
    affinity, cam = random_affinity(size), random_cam(2, size)
    expected = dense_walk(cam, dense_transition(affinity, size), exp_times)
    np.testing.assert_allclose(random_walk(cam.double(), affinity, exp_times=exp_times), expected, atol=2e-7)
    if exp_times <= 8:
        np.testing.assert_allclose(random_walk(cam, affinity, exp_times=exp_times), expected, atol=1e-6)


@pytest.mark.parametrize("kind", [torch.Tensor.numpy, torch.Tensor.double], ids=["kernel", "torch"])
@pytest.mark.parametrize("size", [(13, 17), (6, 5), (2, 3)])
def test_columns_sum_to_one_and_are_alike_where_affinities_are(size, kind):
    n = size[0] * size[1]
    matrix = transition(random_affinity(size), size).apply(kind(torch.eye(n)))
    np.testing.assert_allclose(matrix.sum(0), 1, atol=1e-6)
    assert (matrix >= 0).all()
    pairs = naive_pairs(5, size)
    neighbours = [1 + sum(pixel in pair for pair in pairs) for pixel in range(n)]
    matrix = transition(torch.ones(pair_indices(5, size)[1].shape), size).apply(kind(torch.eye(n)))
    np.testing.assert_allclose(matrix.diagonal(), 1 / np.array(neighbours), atol=1e-6)
    assert ((matrix > 0).sum(0) == kind(torch.tensor(neighbours))).all()


@PATHS
@pytest.mark.parametrize("value", [0.0, 1.0, 0.37, -2.5e3])
def test_a_constant_map_stays_constant(value, dtype):
    size = (20, 31)
    cam = torch.full((1, *size), value, dtype=dtype)
    assert torch.equal(random_walk(cam, random_affinity(size)), cam)


@PATHS
def test_nothing_crosses_where_there_is_no_affinity(dtype):
    size = (24, 30)
    start, end = pair_indices(5, size)
    side = (torch.arange(24 * 30) % 30 >= 13).long()
    affinity = (side[start] == side[end]).float() * 0.9
    cam = torch.stack([side, 1 - side]).view(2, *size).to(dtype)
    np.testing.assert_allclose(random_walk(cam, affinity), cam, atol=1e-6)
    assert random_walk(cam, torch.full_like(affinity, 0.9))[0, :, :13].max() > 0.1
    np.testing.assert_array_equal(random_walk(cam, torch.zeros_like(affinity)), cam)


def test_the_walk_keeps_the_weighted_mean_and_the_range_on_a_big_grid():
    size = (210, 300)  # 63,000 pixels: a dense matrix of them would take 16 GB
    affinity, cam = random_affinity(size), random_cam(2, size)
    step, walked = transition(affinity, size), random_walk(cam, affinity)
    # (x T) D 1 = x A 1 = x D 1: the sum weighted by D stays
    degree = 1 / (1 - step.weights.double().sum(0))
    before, after = ((maps.double().flatten(1) * degree).sum(1) for maps in (cam, walked))
    np.testing.assert_allclose(after, before, rtol=1e-6)
    assert walked.min() >= cam.min() and walked.max() <= cam.max() and walked.std() < cam.std() / 4


def test_channels_do_not_mix_and_results_repeat():
    size = (33, 47)  # more pixels than a block of the kernel
    affinity, cam = random_affinity(size), random_cam(5, size)
    walked = random_walk(cam, affinity)
    assert torch.equal(walked, random_walk(cam, affinity))
    assert torch.equal(walked[2:3], random_walk(cam[2:3], affinity))
    assert torch.equal(walked, random_walk(cam.transpose(1, 2).contiguous().transpose(1, 2), affinity))
    np.testing.assert_allclose(walked, random_walk(cam.double(), affinity.double()), atol=1e-6)
    assert random_walk(cam[:0], affinity).shape == (0, *size)


def test_half_precision_and_gradients_are_left_outside():
    size = (14, 15)
    affinity, cam = random_affinity(size).half(), random_cam(2, size).half()
    walked = random_walk(cam, affinity)
    assert walked.dtype == torch.float16
    np.testing.assert_allclose(walked.float(), random_walk(cam.float(), affinity.float()), atol=1e-3)
    cam = cam.float().requires_grad_()
    assert not random_walk(cam, affinity.float().requires_grad_()).requires_grad
    assert not cam.is_inference() and isinstance(transition(affinity, size), Transition)


@pytest.mark.parametrize("power", [1, 2, 4, 8, 16, 32, 64, 256, 1024, 4096, 2**16])
def test_polynomial_is_the_power(power):
    coefficients = _power_coefficients(power)
    x = np.cos(np.linspace(0, np.pi, 2001))
    np.testing.assert_allclose(np.polynomial.chebyshev.chebval(x, coefficients), x**power, atol=3e-7)
    assert len(coefficients) > 1 and min(coefficients) >= 0
    assert len(coefficients) <= min(power, 5.5 * power**0.5) + 1
    if power == 64:
        assert len(coefficients) == 43


BAD_WALKS = {
    "must be \\(C,h,w\\)": dict(cam=torch.ones(12, 16)),
    "floating point": dict(cam=torch.ones(1, 12, 16, dtype=torch.int64)),
    "give the affinity of this grid": dict(cam=torch.ones(1, 16, 12)),
    "cam holds NaN": dict(cam=torch.full((1, 12, 16), torch.nan)),
    "cam holds NaN or inf": dict(cam=torch.full((1, 12, 16), torch.inf)),
    "affinity must be finite": dict(affinity=torch.full((34, 64), torch.nan)),
    "and 0 or more": dict(affinity=torch.full((34, 64), -0.1)),
    "beta=-1": dict(beta=-1),
    "beta=nan": dict(beta=float("nan")),
    "exp_times must": dict(exp_times=-1),
    "not 1.5": dict(exp_times=1.5),
    "radius must": dict(radius=0),
    "holds no pixels": dict(cam=torch.ones(1, 0, 16)),
    "on meta": dict(affinity=torch.ones(34, 64, device="meta")),
}


@pytest.mark.parametrize("message", BAD_WALKS)
def test_bad_walks(message):
    good = dict(cam=torch.ones(1, 12, 16), affinity=torch.ones(34, 64))
    random_walk(**good)
    with pytest.raises(ValueError, match=message):
        random_walk(**good | BAD_WALKS[message])


# Inference


def test_block_means():
    maps = torch.arange(2 * 11 * 16.0).view(2, 11, 16)
    means = block_mean(maps)
    assert means.shape == (2, 2, 2)
    assert means[0, 0, 1] == maps[0, :8, 8:].mean()
    assert means[1, 1, 0] == maps[1, 8:, :8].sum() / 64  # zeros beyond the edge count


def test_background_score():
    cam = torch.tensor([[[0.0, 0.5, 1.0, 1.2, -0.3]], [[0.0, 0.1, 0.2, 0.0, -0.1]]])
    np.testing.assert_allclose(background_score(cam), [[1, 0.5**6, 0, 0, 1]])
    np.testing.assert_allclose(background_score(cam, alpha=0.5)[0, :3], [1, 0.5**0.5, 0])
    assert torch.equal(background_score(torch.zeros(0, 2, 3)), torch.ones(2, 3))


def published_scores(cam, keys, affinity, num_classes, alpha=6, beta=8, exp_times=6):
    """All classes, absent ones zero, in a dense matrix, float64 -> (num_classes,H,W)."""
    height, width = cam.shape[1:]
    rows, columns = -(-height // 8), -(-width // 8)
    full = np.zeros((num_classes, rows * 8, columns * 8))
    full[keys, :height, :width] = cam.numpy()
    full[0, :height, :width] = (1 - full[1:, :height, :width].max(0)) ** alpha
    grid = full.reshape(num_classes, rows, 8, columns, 8).mean((2, 4))
    walked = dense_walk(torch.from_numpy(grid), dense_transition(affinity, (rows, columns), beta=beta), exp_times)
    up = torch.nn.Upsample(scale_factor=8, mode="bilinear")(torch.from_numpy(walked)[None])
    return up[0, :, :height, :width].numpy()


@pytest.mark.parametrize("size", [(96, 128), (101, 151), (141, 97), (40, 33), (9, 70), (5, 3)])
@pytest.mark.parametrize("keys", [[1], [3, 20], [2, 7, 15]])
def test_walk_labels_is_the_published_inference(size, keys):
    affinity = random_affinity((-(-size[0] // 8), -(-size[1] // 8)))
    cam = random_cam(len(keys), size) ** 4
    for settings in ({}, dict(alpha=2.5, beta=3, exp_times=4)):
        scores, label = walk_labels(cam, keys, affinity, **settings)
        expected = published_scores(cam, keys, affinity, 21, **settings)
        assert scores.shape == (len(keys) + 1, *size) and label.dtype == torch.uint8
        np.testing.assert_allclose(scores, expected[[0, *keys]], atol=1e-6)
        best = np.sort(expected, 0)
        clear = best[-1] - best[-2] > 1e-5
        np.testing.assert_array_equal(label.numpy()[clear], expected.argmax(0)[clear])
        assert clear.mean() > 0.99


def test_walk_cleans_the_maps_of_a_photograph(photographs):
    """A noisy map of a picture's bright part, walked along the affinity of its colours, is nearer to the clean one."""
    picture = torch.from_numpy(np.ascontiguousarray(photographs.rocket[:320, :400])).permute(2, 0, 1).float() / 255
    bright = (block_mean(picture).mean(0) > 0.4).float().repeat_interleave(8, 0).repeat_interleave(8, 1)
    start, end = pair_indices(5, (40, 50))
    colours = block_mean(picture).flatten(1)
    affinity = torch.exp(-3 * (colours[:, start, None] - colours[:, end.T]).abs().mean(0)).T
    noise = random_cam(1, (40, 50))[0].repeat_interleave(8, 0).repeat_interleave(8, 1)
    cam = (0.15 + 0.5 * bright + 0.5 * (noise - 0.5)).clamp(0, 1)[None]
    before = ((cam[0] > background_score(cam)) == bright.bool()).float().mean()
    after = (walk_labels(cam, [4], affinity)[1] == 4 * bright).float().mean()
    assert 0.02 < bright.mean() < 0.5 and after > before + 0.05


def test_no_class_is_all_background():
    scores, label = walk_labels(torch.zeros(0, 21, 30), [], random_affinity((3, 4)))
    assert scores.shape == (1, 21, 30) and (scores > 0).all() and not label.any()
    assert (walk_labels(torch.zeros(0, 24, 32), [], random_affinity((3, 4)))[0] == 1).all()


def test_background_wins_ties_then_the_lower_label():
    cam, affinity = torch.full((2, 16, 16), 0.5), random_affinity((2, 2))
    scores, label = walk_labels(cam, [5, 9], affinity, alpha=1)
    assert (scores == 0.5).all() and not label.any()
    assert (walk_labels(cam, np.array([5, 9]), affinity)[1] == 5).all()


@pytest.mark.parametrize(
    "keys, message",
    [
        ([1], "one map per key"),
        ([0, 3], "ascending"),
        ([3, 2], "ascending"),
        ([4, 4], "ascending"),
        ([1, 255], "1..254"),
    ],
)
def test_bad_keys(keys, message):
    with pytest.raises(ValueError, match=message):
        walk_labels(torch.zeros(2, 16, 16), keys, random_affinity((2, 2)))
    with pytest.raises(ValueError, match="one map per key"):
        walk_labels(torch.zeros(16, 16), [1], random_affinity((2, 2)))
