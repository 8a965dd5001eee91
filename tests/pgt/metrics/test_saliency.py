"""Saliency metrics against the definitions written out, and PySODMetrics: its published values, values pinned
from it, and itself where it is installed.
"""

import json
import pickle
import random
import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import convolve, distance_transform_edt

from pgt.metrics.saliency import SaliencyMetrics, saliency_scores

SCALARS = ("mae", "adp_f", "mean_f", "max_f", "weighted_f", "s_measure", "adp_e", "mean_e", "max_e")
FIELDS = ("mae", "adp_f", "weighted_f", "s_measure", "adp_e", "precision", "recall", "f", "e")

# PySODMetrics 1.6.2 on `photograph_pairs`: SCALARS, then the sums of the precision and of the recall curve.
PINNED = {
    "astronaut": (
        *(
            0.42880428538602944,
            0.07306099244700724,
            0.1250678637360424,
            0.15927446122200925,
            0.12411117514174255,
        ),
        *(0.3483118171321347, 0.6935049083374599, 0.37381648090531394, 0.8163579602804173),
        *(28.360526600951825, 109.07240280433396),
    ),
    "coffee": (
        *(
            0.5334507843137254,
            0.5478383960271971,
            0.4275906855038889,
            0.9235846516032075,
            0.41766744482218726,
        ),
        *(0.34642127556625146, 0.2621232276406307, 0.33510789497370647, 0.9056948028657876),
        *(253.90579431915666, 61.29871223974004),
    ),
    "cat": (
        *(
            0.36715537131655906,
            0.20728874649579498,
            0.16692309603630004,
            0.24244894852031587,
            0.17203704670783923,
        ),
        *(0.4093330351420543, 0.5484534859293658, 0.3939618688914355, 0.7415676347196729),
        *(61.7948268282193, 79.45132639025348),
    ),
}


def disc(shape, cy, cx, radius):
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.where((y - cy) ** 2 + (x - cx) ** 2 <= radius**2, np.uint8(255), np.uint8(0))


def darken(gray):
    """Integer gamma of 2, so that the adaptive threshold stays below 1."""
    return (gray.astype(np.uint16) ** 2 // 255).astype(np.uint8)


def photograph_pairs(photographs):
    """Colour channels as predictions, a disc or the bright pixels as mask; integers, so alike everywhere."""
    astronaut, coffee, cat = photographs.astronaut, photographs.coffee, photographs.cat
    return {
        "astronaut": (darken(astronaut[::2, ::2, 0]), disc((256, 256), 60, 115, 50)),
        "coffee": (darken(coffee[::2, ::2, 1]), (coffee[::2, ::2, 0] > 150).astype(np.uint8) * 255),
        "cat": (darken(255 - cat[..., 1]) // 2 + 20, disc(cat.shape[:2], 150, 290, 90)),
    }


def assert_same(score, expected, atol=1e-10, **context):
    for field, value in expected.items():
        np.testing.assert_allclose(getattr(score, field), value, rtol=1e-10, atol=atol, err_msg=f"{field} {context}")


# --- published and pinned values


def test_published_values(golden):
    published, metrics = golden("pysodmetrics"), SaliencyMetrics()
    for name in ("0001", "19", "aerial-1867541__340"):
        metrics.step(published[f"{name}.preds"], published[f"{name}.masks"], name)
    results = metrics.get_results()
    names = ("MAE", "adpfm", "meanfm", "maxfm", "wFmeasure", "Smeasure", "adpEm", "meanEm", "maxEm")
    for key, name in zip(SCALARS, names, strict=True):
        assert results[key] == pytest.approx(float(published[f"value.{name}"]), abs=1e-12, rel=0), key


@pytest.mark.parametrize("name", PINNED)
def test_pinned_values(photographs, name):
    score = saliency_scores(*photograph_pairs(photographs)[name])
    values = [getattr(score, key) for key in SCALARS] + [score.precision.sum(), score.recall.sum()]
    np.testing.assert_allclose(values, PINNED[name], rtol=1e-12)


# --- PySODMetrics itself


def peer_scores(pred, gt, normalize=True):
    peer = pytest.importorskip("py_sod_metrics", reason="pip install pysodmetrics to compare with it")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        parts = (peer.MAE(), peer.Fmeasure(), peer.WeightedFmeasure(), peer.Smeasure(), peer.Emeasure())
        for part in parts:
            part.step(pred, gt, normalize=normalize)
        mae, f, weighted, s, e = (part.get_results() for part in parts)
    values = (mae["mae"], f["fm"]["adp"], weighted["wfm"], s["sm"], e["em"]["adp"])
    curves = (f["pr"]["p"], f["pr"]["r"], f["fm"]["curve"], e["em"]["curve"])
    return dict(zip(FIELDS, values + curves, strict=True))


def random_pred(rng, shape):
    kind = rng.integers(6)
    pred = rng.integers(0, 256, shape, dtype=np.uint8)
    if kind == 1:
        pred[:] = rng.choice([0, 1, 77, 128, 255])
    elif kind == 2:  # thresholds met exactly
        pred = rng.choice(np.array([0, 50, 100, 200, 255], np.uint8), shape)
    elif kind == 3:
        pred = (rng.random(shape) < 0.4).astype(np.uint8) * 255
    elif kind == 4:  # flat blocks in the S-measure
        pred[:, : shape[1] // 2 + 1] = rng.integers(256)
    elif kind == 5:
        pred = pred // 3 + 40
    return pred


def random_gt(rng, shape):
    kind = rng.integers(5)
    gt = (rng.random(shape) < rng.choice([0.02, 0.1, 0.5, 0.95])).astype(np.uint8) * 255
    if kind <= 1:
        gt[:] = 255 * kind
    elif kind == 2:
        gt = rng.integers(0, 256, shape, dtype=np.uint8)
    elif kind == 3:
        gt = disc(shape, rng.integers(shape[0]), rng.integers(shape[1]), rng.integers(1, 20))
    return gt


def random_case(rng):
    largest = rng.choice([1, 3, 12, 60])
    shape = tuple(rng.integers(1, largest + 1, 2))
    return random_pred(rng, shape), random_gt(rng, shape)


def compare(ours, peer, atol, **context):
    if np.isnan(peer["s_measure"]):  # the one departure: blocks without pixels
        assert 0 <= ours.s_measure <= 1
        del peer["s_measure"]
    assert_same(ours, peer, atol, **context)


def test_uint8_equals_pysodmetrics():
    rng = np.random.default_rng(0)
    for i in range(400):
        pred, gt = random_case(rng)
        compare(saliency_scores(pred, gt), peer_scores(pred, gt), 1e-10, case=i)


@pytest.mark.parametrize(("dtype", "atol"), [(np.float64, 1e-10), (np.float32, 1e-6)])
def test_float_equals_pysodmetrics(dtype, atol):
    rng = np.random.default_rng(1)
    for i in range(200):
        pred, gt = random_case(rng)
        pred = pred.astype(dtype) / 255 if i % 2 else rng.random(gt.shape).astype(dtype) ** 3
        compare(saliency_scores(pred, gt, normalize=False), peer_scores(pred, gt > 128, False), atol, case=i)
        low, high = pred.min(), pred.max()
        stretched = (pred - low) / (high - low) if low != high else pred
        compare(saliency_scores(pred, gt), peer_scores(stretched, gt > 128, False), atol, case=i)


def test_photographs_equal_pysodmetrics(photographs):
    for name, pair in photograph_pairs(photographs).items():
        assert_same(saliency_scores(*pair), peer_scores(*pair), 1e-12, name=name)


# --- definitions, written out


def naive_f(found, gt):
    precision = (found & gt).sum() / found.sum() if found.any() else 0
    recall = (found & gt).sum() / gt.sum() if gt.any() else 0
    f = 1.3 * precision * recall / (0.3 * precision + recall) if precision and recall else 0
    return precision, recall, f


def naive_e(found, gt):
    """The enhanced alignment matrix, pixel by pixel."""
    if not gt.any():
        enhanced = ~found
    elif gt.all():
        enhanced = found
    else:
        a, b = found - found.mean(), gt - gt.mean()
        enhanced = (2 * a * b / (a**2 + b**2) + 1) ** 2 / 4
    return enhanced.sum() / (gt.size - 1)


def naive_ssim(x, y):
    cov = np.cov(x.ravel(), y.ravel())
    a = 4 * x.mean() * y.mean() * cov[0, 1]
    b = (x.mean() ** 2 + y.mean() ** 2) * (cov[0, 0] + cov[1, 1])
    if abs(a) > 1e-15:
        return a / b
    return 1 if b < 1e-15 else 0


def naive_s(pred, gt):
    if gt.all() or not gt.any():
        return pred.mean() if gt.all() else 1 - pred.mean()
    score = 0
    for values, share in ((pred[gt], gt.mean()), (1 - pred[~gt], 1 - gt.mean())):
        score += share * 2 * values.mean() / (values.mean() ** 2 + 1 + values.std(ddof=1))
    cy, cx = (int(np.round(index.mean())) + 1 for index in np.nonzero(gt))
    for rows in (slice(0, cy), slice(cy, None)):
        for cols in (slice(0, cx), slice(cx, None)):
            score += naive_ssim(pred[rows, cols], gt[rows, cols]) * gt[rows, cols].size / gt.size
    return max(score / 2, 0)


def naive_weighted_f(pred, gt):
    if not gt.any():
        return 0
    error = np.abs(pred - gt)
    spread = np.zeros(gt.shape)
    distance = np.zeros(gt.shape)
    for y, x in np.ndindex(gt.shape):
        distance[y, x], nearest_x, nearest_y = min((np.hypot(y - fy, x - fx), fx, fy) for fy, fx in np.argwhere(gt))
        spread[y, x] = error[nearest_y, nearest_x]
    offset = np.arange(-3, 4)
    kernel = np.exp(-(offset[:, None] ** 2 + offset**2) / 50)
    around = convolve(spread, kernel / kernel.sum(), mode="constant")
    error = np.where(gt, np.minimum(error, around), error * (2 - 0.5 ** (distance / 5)))
    true_pos = gt.sum() - error[gt].sum()
    recall, precision = 1 - error[gt].mean(), true_pos / (true_pos + error[~gt].sum())
    return 2 * recall * precision / (recall + precision)


@pytest.mark.parametrize("share", [0, 0.15, 0.5, 0.9, 1])
def test_naive_reference(share):
    rng = np.random.default_rng(2)
    for _ in range(6):
        shape = rng.integers(6, 13, 2)
        pred = rng.integers(0, 256, shape, dtype=np.uint8)
        gt = rng.random(shape) < share
        if 0 < share < 1:  # the centre well inside, more than one pixel of each class
            gt[1:3, 1:3], gt[-1, :], gt[:, -1] = True, False, False
        score = saliency_scores(pred, gt)
        stretched = (pred / 255 - pred.min() / 255) / (pred.max() / 255 - pred.min() / 255)
        levels = (stretched * 255).astype(int)
        maps = [levels >= threshold for threshold in range(255, -1, -1)]
        adaptive = stretched >= min(2 * stretched.mean(), 1)
        precision, recall, f = np.transpose([naive_f(found, gt) for found in maps])
        expected = {
            "mae": np.mean(np.where(gt, 1 - stretched, stretched)),
            "adp_f": naive_f(adaptive, gt)[2],
            "weighted_f": naive_weighted_f(stretched, gt),
            "s_measure": naive_s(stretched, gt),
            "adp_e": naive_e(adaptive, gt),
            "precision": precision,
            "recall": recall,
            "f": f,
            "e": [naive_e(found, gt) for found in maps],
            "mean_f": np.mean(f),
            "max_f": max(f),
            "mean_e": np.mean(score.e),
            "max_e": np.max(score.e),
        }
        assert_same(score, expected, shape=shape)


def test_nearest_foreground_is_that_of_scipy():
    """With many ties: the weighted F of a prediction whose every foreground pixel has an error of its own."""
    rng = np.random.default_rng(3)
    offset = np.arange(-3, 4)
    kernel = np.exp(-(offset[:, None] ** 2 + offset**2) / 50)
    for _ in range(150):
        gt = rng.random(rng.integers(1, 40, 2)) < rng.choice([0.02, 0.1, 0.4])
        if not gt.any():
            continue
        pred = rng.random(gt.shape)
        distance, (rows, cols) = distance_transform_edt(~gt, return_indices=True)
        around = convolve((1 - pred)[rows, cols], kernel / kernel.sum(), mode="constant")
        fg_error = np.minimum(1 - pred, around)[gt]
        false_pos = (pred * (2 - 0.5 ** (distance / 5)))[~gt].sum()
        recall = 1 - fg_error.mean()
        precision = gt.sum() * recall / (gt.sum() * recall + false_pos)
        expected = 2 * recall * precision / (recall + precision)
        assert saliency_scores(pred, gt, normalize=False).weighted_f == pytest.approx(expected, abs=1e-12)


def test_far_background_weighs_twice():
    """Beyond the table of distances, too: one false pixel 299 away from one true one."""
    pred, gt = np.zeros((1, 300)), np.zeros((1, 300), bool)
    gt[0, 0] = pred[0, 0] = pred[0, -1] = 1
    score = saliency_scores(pred, gt)
    assert score.weighted_f == pytest.approx(2 * (1 / 3) / (1 + 1 / 3), abs=1e-12)


# --- conventions


def test_perfect_and_inverted(photographs):
    gt = photograph_pairs(photographs)["astronaut"][1]
    score = saliency_scores(gt, gt)
    assert (score.mae, score.adp_f, score.max_f) == (0, 1, 1)
    assert (score.weighted_f, score.s_measure) == pytest.approx((1, 1))
    assert score.adp_e == pytest.approx(gt.size / (gt.size - 1))
    score = saliency_scores(255 - gt, gt)
    assert (score.mae, score.adp_f) == (1, 0)
    assert (score.adp_e, score.weighted_f) == pytest.approx((0, 0), abs=1e-12)


def test_curve_order():
    """Thresholds fall from 255 to 0: recall rises along the curve."""
    pred, gt = np.arange(256, dtype=np.uint8).reshape(16, 16), np.ones((16, 16), bool)
    np.testing.assert_array_equal(saliency_scores(pred, gt).recall, np.arange(1, 257) / 256)


@pytest.mark.parametrize("value", [0, 77, 255])
@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (5, 7)])
def test_flat_maps(value, filled, shape):
    pred, gt = np.full(shape, value, np.uint8), np.full(shape, filled)
    score = saliency_scores(pred, gt)
    level = value / 255  # a flat prediction is not stretched
    assert score.mae == pytest.approx(1 - level if filled else level)
    assert score.s_measure == pytest.approx(level if filled else 1 - level)
    assert score.adp_f == (filled and value in (0, 255))  # the adaptive threshold, 2 x level up to 1, finds 0 and 255
    assert score.max_f == filled  # threshold 0 finds everything
    assert score.e[-1] == (gt.size / (gt.size - 1 + np.spacing(1)) if filled else 0)
    assert score.weighted_f == 0 if not filled else 0 <= score.weighted_f <= 1
    assert all(np.isfinite(getattr(score, field)).all() for field in FIELDS)


def test_flat_blocks():
    """Foreground in one block of the S-measure: the others count 1 where pred is flat, and 0 where not."""
    gt = np.zeros((8, 8), bool)
    gt[1:3, 1:3] = True
    assert saliency_scores(gt.astype(float), gt).s_measure == pytest.approx(1)
    pred = gt.astype(float)
    pred[7, 7] = 0.5  # spoils the block of 5 x 5, a little of the background
    background = np.append(np.zeros(59), 0.5)
    mean = 1 - background.mean()
    objects = (4 + 60 * 2 * mean / (mean**2 + 1 + background.std(ddof=1))) / 64
    assert saliency_scores(pred, gt).s_measure == pytest.approx((objects + 1 - 25 / 64) / 2)


@pytest.mark.parametrize("axis", [0, 1])
def test_empty_blocks_count_nothing(axis):
    """The foreground's centre in the last row or column: PySODMetrics gives NaN here."""
    pred, gt = np.full((6, 8), 0.0), np.zeros((6, 8), bool)
    index = [slice(None), slice(None)]
    index[axis] = -1
    gt[tuple(index)] = True
    pred[gt] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert saliency_scores(pred, gt).s_measure == pytest.approx(1)
        assert saliency_scores(pred[:1, :1], gt[:1, :1]).s_measure == 1


def test_normalize():
    pred, gt = np.array([[0.2, 0.4], [0.4, 0.6]]), np.array([[False, True], [False, True]])
    assert saliency_scores(pred, gt).mae == pytest.approx((0 + 0.5 + 0.5 + 0) / 4)
    assert saliency_scores(pred, gt, normalize=False).mae == pytest.approx((0.2 + 0.6 + 0.4 + 0.4) / 4)
    assert saliency_scores(pred / 2 + 0.3, gt).mae == pytest.approx(saliency_scores(pred, gt).mae)


def test_types_and_layouts_agree(photographs):
    pred, gt = photograph_pairs(photographs)["cat"]
    score = saliency_scores(pred, gt)
    expected = {field: getattr(score, field) for field in FIELDS}
    assert_same(saliency_scores(pred / 255, gt), expected, 0)
    single = saliency_scores((pred / 255).astype(np.float32), gt)  # its levels may round the other way
    assert_same(single, {key: expected[key] for key in ("mae", "weighted_f", "s_measure")}, 1e-6)
    assert_same(saliency_scores(np.asfortranarray(pred), np.asfortranarray(gt > 128)), expected, 0)
    wide = np.repeat(pred, 2, axis=1)
    wide.flags.writeable = False
    assert_same(saliency_scores(wide[:, ::2], gt), expected, 0)


def test_foreground_is_above_128():
    pred = np.array([[0, 255, 255]], np.uint8)
    score = saliency_scores(pred, np.array([[128, 129, 255]], np.uint8))
    assert (score.mae, score.recall[0]) == (0, 1)


# --- accumulation


def fill(pairs, normalize=True):
    metrics = SaliencyMetrics(normalize)
    for name, (pred, gt) in pairs:
        metrics.step(pred, gt, name)
    return metrics


def test_results_average_images_and_curves(photographs):
    pairs = photograph_pairs(photographs)
    results = fill(pairs.items()).get_results()
    scores = [saliency_scores(*pair, name=name) for name, pair in pairs.items()]
    assert set(results) == {*SCALARS, "precision", "recall", "f", "e"}
    assert all(type(results[key]) is float for key in SCALARS)
    for field in FIELDS:
        np.testing.assert_allclose(results[field], sum(getattr(s, field) for s in scores) / 3, rtol=1e-14)
    assert results["max_f"] == results["f"].max() < np.mean([score.max_f for score in scores])
    assert results["mean_e"] == results["e"].mean()
    assert min(scores, key=lambda score: score.mae).name == "cat"


def test_merged_workers_equal_one(photographs):
    pairs = list(photograph_pairs(photographs).items())
    whole, first, second = fill(pairs), fill(pairs[:1]), fill(pairs[1:])
    first.merge(pickle.loads(pickle.dumps(second)))
    assert first.n == whole.n == len(PINNED)
    expected, results = whole.get_results(), first.get_results()
    for key in expected:
        np.testing.assert_allclose(results[key], expected[key], rtol=1e-14)


def test_neither_order_nor_parts_change_a_bit(photographs):
    scores = [saliency_scores(*pair) for pair in photograph_pairs(photographs).values()]
    scores = [replace(one, mae=one.mae / (k + 1), f=one.f**k) for k, one in enumerate(scores * 50)]
    whole = gathered(scores).get_results()
    random.Random(0).shuffle(scores)
    total = SaliencyMetrics()
    for start in range(0, len(scores), 7):
        part = json.loads(json.dumps(gathered(scores[start : start + 7]).state()))
        total.merge(SaliencyMetrics.of_state(part))
    assert total.n == len(scores)
    for key, value in total.get_results().items():
        np.testing.assert_array_equal(value, whole[key])


def gathered(scores):
    metrics = SaliencyMetrics()
    for one in scores:
        metrics.add(one)
    return metrics


def test_merge_needs_the_same_normalize():
    with pytest.raises(ValueError, match="same setting"):
        SaliencyMetrics().merge(SaliencyMetrics(normalize=False))


def test_no_image_is_an_error():
    with pytest.raises(ValueError, match="no image"):
        SaliencyMetrics().get_results()


# --- bad input

PRED, GT = np.zeros((4, 5), np.uint8), np.zeros((4, 5), bool)


@pytest.mark.parametrize(
    ("pred", "gt", "message"),
    [
        (PRED[:3], GT, r"\(3, 5\) and \(4, 5\); resize pred"),
        (PRED.T, GT, "resize pred"),
        (PRED[None], GT[None], r"\(H, W\)"),
        (PRED.ravel(), GT.ravel(), r"\(H, W\)"),
        (PRED[:0], GT[:0], "not empty"),
        (PRED.tolist(), GT, "numpy arrays, not list and ndarray"),
        (PRED, None, "not ndarray and NoneType"),
        (PRED.astype(int), GT, "got int64"),
        (PRED.astype(np.float16), GT, "got float16"),
        (PRED.astype(bool), GT, "pred must be uint8"),
        (PRED, GT.astype(float), "gt must be bool or uint8"),
        (PRED, GT.astype(int), "gt must be bool or uint8"),
        (PRED - 0.1, GT, r"\[0, 1\], got -0.1"),
        (PRED + 1.5, GT, "to 1.5; scale"),
        (PRED + np.nan, GT, "got nan"),
        (PRED + np.inf, GT, "got inf"),
    ],
)
def test_bad_input(pred, gt, message):
    metrics = SaliencyMetrics()
    with pytest.raises(ValueError, match=message):
        metrics.step(pred, gt)
    assert metrics.n == 0
