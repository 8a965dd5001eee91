"""The CRF against the numbers of pydensecrf, an exact filter on a small picture, and its own invariants."""

from dataclasses import replace

import numpy as np
import pytest

from pgt.crf import (
    CRF_RECIPES,
    FEATURE_ORDERS,
    CRFParams,
    dense_crf,
    dense_crf_torch,
    mean_field,
    mean_field_torch,
    unary_from_cam,
    unary_from_labels,
    unary_from_prob,
    unary_from_saliency,
)
from pgt.crf.batch import build_batch, filtered, normalised
from pgt.crf.sweeps import position_lattice

CAM = CRF_RECIPES["wsss_cam"]
SEG = CRF_RECIPES["wsss_seg"]


def assert_same_marginals(ours, theirs):
    assert ours.dtype == np.float32 and ours.shape == theirs.shape
    assert np.abs(ours - theirs).mean() < 1e-6
    assert np.abs(ours - theirs).max() < 1e-4
    assert (ours.argmax(0) == theirs.argmax(0)).all()


def soft_prob(labels, height, width, seed=0):
    """Smooth probabilities (C, H, W): a coarse random map, each value repeated."""
    coarse = np.random.default_rng(seed).dirichlet(np.ones(labels), (height // 8 + 1, width // 8 + 1))
    return np.repeat(np.repeat(coarse, 8, 0), 8, 1)[:height, :width].transpose(2, 0, 1).astype(np.float32)


# ---- pydensecrf's numbers ----


@pytest.mark.parametrize(
    "key, params",
    [
        ("tool_crf_inference_t1", replace(CAM, num_iter=1)),
        ("tool_crf_inference_t10", CAM),
        ("tool_crf_inference_t10_scale2", CAM.at_scale(2)),
        ("lib_dense_crf_sxy32_n1", SEG),
        ("lib_dense_crf_sxy32_n10", replace(SEG, num_iter=10)),
        ("vis_dense_crf_sxy80_n1", replace(CAM, num_iter=1)),
    ],
)
def test_three_labels_equal_pydensecrf(golden, key, params):
    published = golden("hfpl_crf_functions")
    marginals = dense_crf(golden.image("coffee_101x151"), published["probs"], params)
    assert_same_marginals(marginals, published[key])


def test_label_unary_equals_pydensecrf(golden):
    published = golden("hfpl_crf_functions")
    unary = unary_from_labels(published["irn_crf_label_in"], 3, confidence=0.7)
    labels = mean_field(golden.image("coffee_101x151"), unary, CRF_RECIPES["irn_label"]).argmax(0)
    np.testing.assert_array_equal(labels, published["irn_crf_inference_label_t10"])
    np.testing.assert_array_equal(unary.reshape(3, -1)[:, ::7], published["unary_from_labels_0.7_nounsure"])
    np.testing.assert_array_equal(
        unary_from_prob(published["probs"]).reshape(3, -1)[:, ::7], published["unary_from_softmax"]
    )


@pytest.mark.parametrize("name", ["coffee_203x301", "rocket_213x321"])
def test_saliency_recipe_equals_published(golden, name):
    published = golden("pgt_crf")
    saliency = published[f"{name}.sal_in"] / 255.0
    image, params = golden.image(name), CRF_RECIPES["wsod_pixel"]
    foreground = mean_field(image, unary_from_saliency(saliency), params)[1]
    levels = (foreground * 255).astype(np.uint8).astype(int)
    assert (np.abs(levels - published[f"{name}.out_none"]) <= 1).all()
    binary = (saliency >= 0.4).astype(float)  # so steep a unary that the CRF can move nothing
    kept = mean_field(image, unary_from_saliency(binary), params)[1]
    np.testing.assert_array_equal((kept * 255).astype(np.uint8), published[f"{name}.out_b0.4"])


@pytest.mark.parametrize("name", ["coffee_203x301", "rocket_213x321", "astronaut_255x255"])
@pytest.mark.parametrize("file", ["pgt_run_slic", "pgt_run_slic_single_lab"])
def test_superpixel_recipe_equals_published(golden, file, name):
    published = golden(file)
    prob = published[f"{name}.sp_prob"][published[f"{name}.slic_labels"]]
    foreground = dense_crf(golden.image(name), np.stack([1 - prob, prob]), CRF_RECIPES["wsod_superpixel"])[1]
    png = (foreground * 255).astype(np.uint8).astype(int)
    assert np.abs(png - published[f"{name}.out_png"]).max() <= 1
    if f"{name}.crf_fg" in published.files:  # large: in ../shared alone
        assert np.abs(foreground - published[f"{name}.crf_fg"]).max() < 1e-4


# mean absolute difference and share of equal labels of pydensecrf and an exact filter
EXACT = {
    "generatePGT_crf_py": (0.006, 0.990),
    "run_slic_and_hfpl": (0.010, 0.988),
    "irn": (0.023, 0.975),
    "hfpl_t10": (0.011, 0.988),
}


@pytest.mark.parametrize("name", EXACT)
def test_lattice_against_exact_filter(golden, name):
    published = golden("hfpl_crf_small_exact")
    params = CRFParams(*published[f"{name}.settings_sg_cg_sb_sr_cb_n"].tolist())
    marginals = dense_crf(published["img"], published["probs"], params)
    assert_same_marginals(marginals, published[f"{name}.pydensecrf"])
    exact = published[f"{name}.exact_brute_force"]
    difference, agreement = EXACT[name]
    assert np.abs(marginals - exact).mean() < difference
    assert (marginals.argmax(0) == exact.argmax(0)).mean() > agreement


def brute_force(image, unary, params):
    """Mean field with the exact kernels, every pixel against every pixel, itself included."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    position = np.stack([x, y], -1).reshape(-1, 2)
    colour = image.reshape(-1, 3) / params.bilateral_srgb

    def normalised(feature):
        kernel = np.exp(-0.5 * ((feature[:, None] - feature[None]) ** 2).sum(-1))
        scale = 1 / np.sqrt(kernel.sum(1))
        return kernel * scale[:, None] * scale[None]

    kernel = params.gaussian_compat * normalised(position / params.gaussian_sxy)
    bilateral = np.concatenate([position / params.bilateral_sxy, colour], 1)
    kernel = kernel + params.bilateral_compat * normalised(bilateral)
    energy = unary.reshape(len(unary), -1).astype(float)
    marginal = np.exp(-energy)
    for step in range(params.num_iter + 1):
        marginal = marginal / marginal.sum(0)
        if step < params.num_iter:
            score = marginal @ kernel - energy
            marginal = np.exp(score - score.max(0))
    return marginal.reshape(unary.shape)


def test_close_to_brute_force_on_a_photograph(photographs):
    image = np.ascontiguousarray(photographs.coffee[100:340:8, 100:400:8])
    unary = unary_from_prob(soft_prob(3, *image.shape[:2]))
    marginals, exact = mean_field(image, unary, CAM), brute_force(image, unary, CAM)
    assert np.abs(marginals - exact).mean() < 0.03
    assert (marginals.argmax(0) == exact.argmax(0)).mean() > 0.96


# ---- invariants ----


@pytest.mark.parametrize("labels", [1, 2, 3, 8, 9, 21, 81])
def test_marginals_are_probabilities(photographs, labels):
    image = np.ascontiguousarray(photographs.cat[:67, :43])
    marginals = dense_crf(image, soft_prob(labels, 67, 43), CAM)
    assert np.isfinite(marginals).all() and marginals.min() >= 0
    np.testing.assert_allclose(marginals.sum(0), 1, atol=1e-5)


@pytest.mark.parametrize("labels", [3, 9])
def test_labels_are_exchangeable(photographs, labels):
    image, prob = np.ascontiguousarray(photographs.cat[:50, :61]), soft_prob(labels, 50, 61)
    order = np.random.default_rng(1).permutation(labels)
    np.testing.assert_allclose(dense_crf(image, prob[order], CAM), dense_crf(image, prob, CAM)[order], atol=2e-5)


def test_two_labels_equal_three_of_which_one_is_forbidden(photographs):
    image, prob = np.ascontiguousarray(photographs.cat[:50, :61]), soft_prob(2, 50, 61)
    unary = unary_from_prob(prob)
    never = np.full_like(unary[:1], np.inf)
    three = mean_field(image, np.concatenate([unary, never]), CAM)
    assert (three[2] == 0).all()
    np.testing.assert_allclose(three[:2], mean_field(image, unary, CAM), atol=2e-5)


@pytest.mark.parametrize("labels", [2, 3])
def test_no_iteration_or_no_weight_gives_the_prior(photographs, labels):
    image, prob = np.ascontiguousarray(photographs.cat[:20, :30]), soft_prob(labels, 20, 30)
    for params in (replace(CAM, num_iter=0), replace(CAM, gaussian_compat=0, bilateral_compat=0)):
        np.testing.assert_allclose(dense_crf(image, prob, params), prob, atol=1e-5)


@pytest.mark.parametrize("labels", [2, 4])
def test_certain_and_impossible_labels_stay_finite(photographs, labels):
    image = np.ascontiguousarray(photographs.cat[:40, :40])
    prob = np.eye(labels, dtype=np.float32)[np.random.default_rng(0).integers(0, labels, (40, 40))].transpose(2, 0, 1)
    for unary in (unary_from_prob(prob), unary_from_prob(prob, clip=None), np.full_like(prob, np.inf)):
        marginals = mean_field(image, unary, CAM)
        assert np.isfinite(marginals).all()
        np.testing.assert_allclose(marginals.sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(mean_field(image, unary_from_prob(prob, clip=None), CAM).argmax(0), prob.argmax(0))


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (1, 3), (2, 2), (65, 129)])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_constant_and_thin_images(shape, value):
    image = np.full((*shape, 3), value, np.uint8)
    for labels in (2, 3):
        prob = soft_prob(labels, *shape)
        marginals = dense_crf(image, prob, CAM)
        assert np.isfinite(marginals).all()
        np.testing.assert_allclose(marginals.sum(0), 1, atol=1e-5)
        batch = as_batch([image], [prob])
        np.testing.assert_allclose(marginals[None], dense_crf_torch(*batch, CAM).numpy(), atol=1e-4)


def test_smoothing_removes_a_speckle_and_keeps_an_edge():
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 30:] = 200
    truth = np.broadcast_to(np.arange(60) >= 30, (40, 60)).astype(int)
    noisy = truth.copy()
    noisy[20, 10], noisy[20, 50] = 1, 0
    labels = mean_field(image, unary_from_labels(noisy, 2, 0.7), CRF_RECIPES["irn_label"]).argmax(0)
    np.testing.assert_array_equal(labels, truth)


def test_same_bytes_twice_and_inputs_untouched(photographs):
    image, prob = np.ascontiguousarray(photographs.cat[:60, :60]), soft_prob(5, 60, 60)
    before = image.copy(), prob.copy()
    first = dense_crf(image, prob, CAM)
    dense_crf(image, prob, replace(CAM, gaussian_compat=7))  # another cached position lattice
    assert first.tobytes() == dense_crf(image, prob, CAM).tobytes()
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(prob, before[1])


def test_feature_order_is_part_of_the_recipe(photographs):
    image, prob = np.ascontiguousarray(photographs.coffee[100:160, 100:180]), soft_prob(2, 60, 80)
    results = [dense_crf(image, prob, replace(CAM, feature_order=order)) for order in FEATURE_ORDERS]
    assert all(np.abs(a - b).mean() > 1e-4 for i, a in enumerate(results) for b in results[:i])
    swapped = np.ascontiguousarray(image[..., ::-1])
    np.testing.assert_array_equal(results[2], dense_crf(swapped, prob, CAM))


def test_views_and_other_float_types_are_accepted(photographs):
    image, prob = photographs.cat[:80:2, 200:120:-2], soft_prob(3, 40, 40).astype(np.float64)
    expected = dense_crf(np.ascontiguousarray(image), prob.astype(np.float32), CAM)
    np.testing.assert_allclose(
        dense_crf(image, prob.transpose(0, 2, 1).copy().transpose(0, 2, 1), CAM), expected, atol=1e-5
    )


# ---- unaries ----


def test_unary_from_prob_clip():
    prob = np.array([0.0, 1e-7, 0.5, 1.0])
    np.testing.assert_allclose(unary_from_prob(prob), -np.log([1e-5, 1e-5, 0.5, 1]), rtol=1e-6)
    np.testing.assert_allclose(unary_from_prob(prob, clip=None), [np.inf, -np.log(1e-7), -np.log(0.5), 0], rtol=1e-6)


def test_unary_from_saliency_is_the_published_formula():
    p = np.array([[0.0, 0.3, 1.0]])
    unary = unary_from_saliency(p)
    np.testing.assert_allclose(unary[1], -np.log(p + 1e-8) / (1.05 / (1 + np.exp(-p))), rtol=1e-6)
    np.testing.assert_allclose(unary[0], -np.log(1 - p + 1e-8) / (1.05 / (1 + np.exp(p - 1))), rtol=1e-6)


def test_unary_from_cam_puts_background_first():
    cam = np.array([[[0.2, 0.9]], [[0.6, 0.1]]])
    np.testing.assert_allclose(np.exp(-unary_from_cam(cam, 2)), [[[0.16, 0.01]], [[0.2, 0.9]], [[0.6, 0.1]]], rtol=1e-5)


# ---- torch ----


def as_batch(images, probs):
    torch = pytest.importorskip("torch")
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.from_numpy(np.stack(probs))


@pytest.mark.parametrize("labels, order", [(2, "xyrgb"), (5, "yxrgb"), (21, "xybgr")])
def test_torch_equals_numba(photographs, labels, order):
    params = CRFParams(num_iter=5, feature_order=order)
    images = [photographs.coffee[60:131, 100:181], photographs.cat[60:131, 100:181]]  # 71 x 81: not a multiple of 4
    probs = [soft_prob(labels, 71, 81, seed) for seed in range(2)]
    expected = np.stack([dense_crf(*pair, params) for pair in zip(images, probs, strict=True)])
    image, prob = as_batch(images, probs)
    for dtype in (image, image.float()):
        np.testing.assert_allclose(dense_crf_torch(dtype, prob, params).numpy(), expected, atol=1e-4)


def test_torch_lattice_is_normalised(photographs):
    torch = pytest.importorskip("torch")
    image = torch.from_numpy(photographs.cat[:40, :40].transpose(2, 0, 1)[None].astype(np.float32))
    lattice = normalised(build_batch(image, 80, 13, 0), compat=2.0)
    root = 1 / lattice.weight.sum(1, keepdim=True)  # the root of the kernel sums, but for the factor compat
    torch.testing.assert_close(filtered(lattice, root), 2.0 * root, rtol=1e-4, atol=0)


# ---- bad input ----


@pytest.mark.parametrize(
    "wrong",
    [
        {"gaussian_sxy": 0},
        {"bilateral_sxy": -1},
        {"bilateral_srgb": float("nan")},
        {"gaussian_compat": -1},
        {"bilateral_compat": float("inf")},
        {"num_iter": -1},
        {"feature_order": "rgbxy"},
    ],
)
def test_bad_params(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CRFParams(**wrong)


def test_bad_images_and_unaries():
    image, unary = np.zeros((4, 5, 3), np.uint8), np.zeros((2, 4, 5), np.float32)
    for bad in (image.astype(np.float32), image[..., 0], image[..., :2], image[:0]):
        with pytest.raises(ValueError, match="image is"):
            mean_field(bad, unary, CAM)
    for bad in (unary[:, :3], unary[0], unary[:0]):
        with pytest.raises(ValueError, match="do not meet"):
            mean_field(image, bad, CAM)
    for value in (np.nan, -np.inf):
        bad = unary.copy()
        bad[1, 2, 3] = value
        with pytest.raises(ValueError, match="NaN or -inf"):
            mean_field(image, bad, CAM)
    with pytest.raises(ValueError, match="too fine"):
        mean_field(image, unary, replace(CAM, bilateral_srgb=1e-4))


def test_bad_batches():
    torch = pytest.importorskip("torch")
    image, unary = torch.zeros(2, 3, 4, 5), torch.zeros(2, 2, 4, 5)
    with pytest.raises(ValueError, match="image is"):
        mean_field_torch(image[0], unary, CAM)
    for bad in (unary[:1], unary[0], unary[..., :4]):
        with pytest.raises(ValueError, match="do not meet"):
            mean_field_torch(image, bad, CAM)
    with pytest.raises(ValueError, match="NaN or -inf"):
        mean_field_torch(image, unary * float("nan"), CAM)


def test_bad_unary_inputs():
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        unary_from_saliency(np.full((3, 3), 255))
    with pytest.raises(ValueError, match="confidence"):
        unary_from_labels(np.zeros((2, 2), int), 2, 1.0)
    with pytest.raises(ValueError, match="num_labels"):
        unary_from_labels(np.zeros((2, 2), int), 1, 0.5)
    for bad in (np.array([[255]]), np.array([[-1]]), np.array([[0.0]])):
        with pytest.raises(ValueError, match="integers"):
            unary_from_labels(bad, 21, 0.7)


def test_position_lattice_is_cached_per_size():
    image, prob = np.zeros((9, 11, 3), np.uint8), soft_prob(2, 9, 11)
    position_lattice.cache_clear()
    dense_crf(image, prob, CAM)
    dense_crf(image + np.uint8(9), prob, SEG)
    assert (position_lattice.cache_info().misses, position_lattice.cache_info().hits) == (1, 1)
