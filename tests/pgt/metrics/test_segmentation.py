"""IoU, threshold sweep and contour F, against the plain way of computing each."""

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage.morphology import disk

from pgt.metrics.segmentation import BOUND_TH, Confusion, ContourF, ThresholdSweep, fill_void


@pytest.fixture
def voc_masks(shared):
    folder = shared("data", "VOCdevkit", "VOC2012", "SegmentationClass")
    return [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())[:12]]


def moved(mask, by=(4, -3)):
    """A prediction that is wrong by a few pixels, and has no void."""
    matrix = np.float32([[1, 0.02, by[0]], [0.01, 1, by[1]]])
    return cv2.warpAffine(np.where(mask == 255, 0, mask), matrix, mask.shape[::-1], flags=cv2.INTER_NEAREST)


def random_maps(rng, num_classes, shape, dtype=np.uint8):
    pred, gt = (rng.integers(0, num_classes, shape).astype(dtype) for _ in range(2))
    gt[rng.random(shape) < 0.1] = 255
    pred[rng.random(shape) < 0.1] = 255
    return pred, gt


# Confusion


def naive_iou(pairs, num_classes):
    inter, union = np.zeros(num_classes), np.zeros(num_classes)
    for pred, gt in pairs:
        for c in range(num_classes):
            p, g = (pred == c) & (gt != 255), gt == c
            inter[c] += (p & g).sum()
            union[c] += (p | g).sum()
    return inter, union


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.int64])
def test_iou_is_that_of_masks_class_by_class(dtype):
    rng = np.random.default_rng(0)
    pairs = [random_maps(rng, 7, (rng.integers(1, 30), rng.integers(1, 30))) for _ in range(8)]
    confusion = Confusion(9)
    for pred, gt in pairs:
        if dtype == np.int8:
            pred = pred.clip(0, 6)
        confusion.step(pred.astype(dtype), gt)
    if dtype != np.int8:
        inter, union = naive_iou(pairs, 9)
        results = confusion.get_results()
        np.testing.assert_allclose(results["iou"][:7], inter[:7] / union[:7], rtol=1e-12)
        assert np.isnan(results["iou"][7:]).all()
        assert results["miou"] == pytest.approx(np.mean(inter[:7] / union[:7]))
        assert results["miou_absent_0"] == pytest.approx(np.sum(inter[:7] / union[:7]) / 9)
        valid = [(p[g != 255], g[g != 255]) for p, g in pairs]
        right = sum((p == g).sum() for p, g in valid) / sum(g.size for _, g in valid)
        assert results["pixel_accuracy"] == pytest.approx(right)


def test_matrix_is_that_of_scikit_learn(voc_masks):
    confusion_matrix = pytest.importorskip("sklearn.metrics").confusion_matrix
    confusion, expected = Confusion(21), 0
    for mask in voc_masks:
        pred, valid = moved(mask), mask != 255
        confusion.step(pred, mask)
        expected = expected + confusion_matrix(mask[valid], pred[valid], labels=range(21))
    np.testing.assert_array_equal(confusion.matrix[:, :-1], expected)
    assert not confusion.matrix[:, -1].any()


def test_miou_is_that_of_torchmetrics():
    classification = pytest.importorskip("torchmetrics.classification")
    torch = pytest.importorskip("torch")
    pred, gt = random_maps(np.random.default_rng(1), 5, (40, 50))
    pred[pred == 255] = 0
    confusion = Confusion(5)
    confusion.step(pred, gt)
    peer = classification.MulticlassJaccardIndex(num_classes=5, ignore_index=255)
    expected = peer(*(torch.from_numpy(m.astype(np.int64)) for m in (pred, gt)))
    assert confusion.get_results()["miou"] == pytest.approx(float(expected), abs=1e-6)


def test_void_in_the_mask_counts_nothing_and_void_in_the_prediction_is_a_miss():
    confusion = Confusion(3)
    confusion.step(np.array([[1, 2, 255, 255]], np.uint8), np.array([[1, 255, 1, 255]], np.uint8))
    assert confusion.matrix.tolist() == [[0, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]
    assert confusion.get_results()["miou"] == 0.5


def test_merged_parts_are_the_whole():
    rng = np.random.default_rng(2)
    pairs = [random_maps(rng, 4, (9, 8)) for _ in range(4)]
    for make in (lambda: Confusion(4), lambda: ContourF(4)):
        whole, a, b = make(), make(), make()
        for i, pair in enumerate(pairs):
            whole.step(*pair)
            (a, b)[i % 2].step(*pair)
        a.merge(b)
        for name in whole._names:
            np.testing.assert_array_equal(getattr(a, name), getattr(whole, name))
    with pytest.raises(ValueError, match="do not add up"):
        Confusion(4).merge(Confusion(5))
    with pytest.raises(ValueError, match="do not add up"):
        ContourF(4).merge(ContourF(4, void="background"))


BAD_MAPS = {
    "holds 3": np.full((2, 3), 3, np.uint8),
    "holds -1": np.full((2, 3), -1),
    "resize pred to gt": np.zeros((3, 2), np.uint8),
    "got float64": np.zeros((2, 3)),
    r"\(1, 2, 3\)": np.zeros((1, 2, 3), np.uint8),
    "not empty": np.zeros((0, 3), np.uint8),
    "got list": [[0, 1]],
}


@pytest.mark.parametrize("message", BAD_MAPS)
@pytest.mark.parametrize("make", [Confusion, ContourF])
def test_bad_maps(make, message):
    metric = make(3)
    with pytest.raises(ValueError, match=message):
        metric.step(BAD_MAPS[message], np.zeros((2, 3), np.uint8))
    assert not any(getattr(metric, name).any() for name in metric._names)


def test_bad_arguments_and_no_data():
    for make in (Confusion, ContourF, ThresholdSweep):
        with pytest.raises(ValueError, match="void must be above"):
            make(256)
        with pytest.raises(ValueError, match="void must be above"):
            make(0)
    for metric in (Confusion(3), ThresholdSweep(3)):
        with pytest.raises(ValueError, match="no pixel"):
            metric.get_results()
    with pytest.raises(ValueError, match="left_out"):
        ContourF(3, void="ignored")


# ThresholdSweep


def naive_sweep(images, num_classes, thresholds):
    """Confusion matrices (T, C, C+1) by one arg-max a threshold, as published."""
    out = []
    for threshold in thresholds:
        confusion = Confusion(num_classes)
        for keys, scores, gt in images:
            tensor = np.zeros((num_classes, *gt.shape), np.float32)
            for key, score in zip(keys, scores, strict=True):
                tensor[key] = score
            tensor[0] = threshold
            confusion.step(tensor.argmax(0).astype(np.uint8), gt)
        out.append(confusion.matrix)
    return np.array(out)


def random_cams(rng, num_classes, dtype):
    shape = rng.integers(1, 25, 2)
    keys = np.sort(rng.choice(np.arange(1, num_classes), rng.integers(0, 4), replace=False))
    scores = rng.random((keys.size, *shape)).astype(dtype)
    scores[rng.random(scores.shape) < 0.2] = 0
    ties = rng.random(scores.shape) < 0.5  # exactly on thresholds, and on each other
    scores[ties] = np.round(scores[ties], 2)
    return keys, scores, random_maps(rng, num_classes, shape)[1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_the_sweep_is_one_arg_max_a_threshold(dtype):
    rng = np.random.default_rng(3)
    images = [random_cams(rng, 6, dtype) for _ in range(20)]
    sweep, halves = ThresholdSweep(6), [ThresholdSweep(6), ThresholdSweep(6)]
    for i, image in enumerate(images):
        sweep.step(*image)
        halves[i % 2].step(*image)
    expected = naive_sweep(images, 6, [i / 100.0 for i in range(60)])
    np.testing.assert_array_equal(sweep._matrices(), expected)
    halves[0].merge(halves[1])
    np.testing.assert_array_equal(halves[0].counts, sweep.counts)
    results = sweep.get_results()
    single = [sweep.confusion(i).get_results() for i in range(60)]
    assert results["miou"].tolist() == pytest.approx([r["miou"] for r in single])
    assert results["miou_absent_0"].tolist() == pytest.approx([r["miou_absent_0"] for r in single])
    best = int(np.argmax([r["miou_absent_0"] for r in single]))
    assert results["best_threshold"] == best / 100 and results["thresholds"].tolist() == [i / 100 for i in range(60)]
    assert results["best"]["miou"] == single[best]["miou"]


@pytest.mark.parametrize("thresholds", [[0.3], [-1.0, 0.1, 0.11, 0.5, 7.0]])
def test_any_ascending_thresholds(thresholds):
    rng = np.random.default_rng(4)
    images = [random_cams(rng, 5, np.float32) for _ in range(10)]
    sweep = ThresholdSweep(5, thresholds=thresholds)
    for keys, scores, gt in images:
        sweep.step(keys, scores, gt)
    if min(thresholds) >= 0:
        np.testing.assert_array_equal(sweep._matrices(), naive_sweep(images, 5, thresholds))
    else:  # below 0 the absent classes' zeros of the published tensor would win: here they are not candidates
        np.testing.assert_array_equal(sweep._matrices()[1:], naive_sweep(images, 5, thresholds[1:]))
        assert sweep._matrices()[0, :, 0].sum() == sum((gt != 255).sum() for k, _, gt in images if not k.size)


def test_background_wins_ties_then_the_lower_class():
    sweep = ThresholdSweep(4, thresholds=[0.1, 0.2])
    sweep.step([1, 3], np.float32([[[0.1, 0.2]], [[0.1, 0.2]]]), np.array([[3, 3]], np.uint8))
    assert sweep.confusion(0).matrix[3].tolist() == [1, 1, 0, 0, 0]
    assert sweep.confusion(1).matrix[3].tolist() == [2, 0, 0, 0, 0]


def test_bad_cams():
    gt = np.zeros((2, 3), np.uint8)
    cases = {
        "as many scores": ([1], np.zeros((1, 3, 2))),
        r"keys \[0\]": ([0], np.zeros((1, 2, 3))),
        r"keys \[4\]": ([4], np.zeros((1, 2, 3))),
        r"keys \[2, 1\]": ([2, 1], np.zeros((2, 2, 3))),
        "not finite": ([1], np.full((1, 2, 3), np.nan)),
    }
    for message, (keys, scores) in cases.items():
        sweep = ThresholdSweep(4)
        with pytest.raises(ValueError, match=message):
            sweep.step(keys, scores, gt)
        assert not sweep.counts.any()
    for thresholds in ([], [0.2, 0.1], [[0.1]]):
        with pytest.raises(ValueError, match="ascending"):
            ThresholdSweep(4, thresholds=thresholds)


# ContourF


def naive_boundary(mask):
    """seg2bmap: last row and column look along themselves only, the corner is off."""
    east, south, both = (np.zeros_like(mask) for _ in range(3))
    east[:, :-1], south[:-1], both[:-1, :-1] = mask[:, 1:], mask[1:], mask[1:, 1:]
    edge = (mask ^ east) | (mask ^ south) | (mask ^ both)
    edge[-1] = mask[-1] ^ east[-1]
    edge[:, -1] = mask[:, -1] ^ south[:, -1]
    edge[-1, -1] = False
    return edge


def naive_contours(pred, gt, num_classes):
    """Every class dilated in turn, as published."""
    gt = np.where(gt == 255, 0, gt)
    kernel = disk(np.ceil(BOUND_TH * np.linalg.norm(gt.shape))).astype(np.uint8)
    out = np.zeros((4, num_classes), np.int64)
    for c in range(1, num_classes):
        p, g = naive_boundary(pred == c), naive_boundary(gt == c)
        near_p, near_g = (cv2.dilate(m.astype(np.uint8), kernel) > 0 for m in (p, g))
        out[:, c] = (p & near_g).sum(), p.sum(), (g & near_p).sum(), g.sum()
    return out


def test_contours_of_voc_masks_are_those_of_dilation(voc_masks):
    contours, expected = ContourF(21, void="background"), 0
    for mask in voc_masks:
        contours.step(moved(mask), mask)
        expected = expected + naive_contours(moved(mask), mask, 21)
    np.testing.assert_array_equal(contours.counts, expected)


@pytest.mark.parametrize("num_classes", [2, 21, 64, 65, 66, 200])
def test_contours_of_random_maps_are_those_of_dilation(num_classes):
    rng = np.random.default_rng(num_classes)
    for shape in ((1, 1), (1, 9), (9, 1), (5, 7), (60, 41), (300, 160)):
        coarse = [rng.integers(0, num_classes, (6, 6)).astype(np.uint8) for _ in range(2)]
        pred, gt = (cv2.resize(m, shape[::-1], interpolation=cv2.INTER_NEAREST) for m in coarse)
        pred = np.where(rng.random(shape) < 0.5, gt, pred) if shape[0] < 60 else np.roll(gt, 3, axis=1)
        gt[rng.random(shape) < 0.05] = 255
        pred[rng.random(shape) < 0.01] = 255
        contours = ContourF(num_classes, void="background")
        contours.step(pred, gt)
        np.testing.assert_array_equal(contours.counts, naive_contours(pred, gt, num_classes))


def test_f_is_over_the_data_set_and_both_means_are_named():
    gt = np.zeros((40, 40), np.uint8)
    gt[10:20, 10:20] = 1
    contours = ContourF(5)
    contours.step(gt, gt)
    contours.step(np.where(gt == 1, 2, 0), gt)
    results = contours.get_results()
    assert results["f"][1] == pytest.approx(2 * 0.5 / 1.5)  # precision 1, half of the contours found
    assert results["f"][2] == 0 and np.isnan(results["f"][[0, 3, 4]]).all()
    assert results["mean_f"] == pytest.approx(results["f"][1] / 2)
    assert results["mean_f_absent_1"] == pytest.approx((results["f"][1] + 2) / 4)
    assert np.isnan(ContourF(3).get_results()["mean_f"])


def test_void_left_out_makes_no_contour_and_hides_what_is_predicted_in_it(voc_masks):
    rng = np.random.default_rng(5)
    for mask in voc_masks[:4]:
        pred = moved(mask)
        noise = np.where(mask == 255, rng.integers(0, 21, mask.shape), pred).astype(np.uint8)
        results = []
        for p in (pred, noise):
            contours = ContourF(21)
            contours.step(p, mask)
            results.append(contours.counts)
        np.testing.assert_array_equal(*results)
        perfect = ContourF(21)
        perfect.step(mask, mask)
        assert perfect.get_results()["mean_f"] == 1
    # a void blob in the background has contours only where void is background of another class
    gt = np.ones((30, 30), np.uint8)
    gt[10:20, 10:20] = 255
    for void, expected in (("left_out", 0), ("background", 40)):
        contours = ContourF(2, void=void)
        contours.step(np.ones_like(gt), gt)
        assert contours.counts[3, 1] == expected


def test_without_void_both_forms_are_one():
    rng = np.random.default_rng(6)
    pred, gt = (np.kron(rng.integers(0, 4, (5, 5)), np.ones((9, 9), int)) for _ in range(2))
    counts = []
    for void in ("left_out", "background"):
        contours = ContourF(4, void=void)
        contours.step(pred, gt)
        counts.append(contours.counts)
    np.testing.assert_array_equal(*counts)


def test_fill_void_takes_a_nearest_pixel(voc_masks):
    for mask in voc_masks[:3]:
        void = mask == 255
        index = np.arange(mask.size).reshape(mask.shape)
        filled, source = fill_void(void, mask, index)
        np.testing.assert_array_equal(filled, mask.reshape(-1)[source])
        np.testing.assert_array_equal(source[~void], index[~void])
        assert not void.reshape(-1)[source].any()
        y, x = np.nonzero(void)
        taken = np.hypot(y - source[void] // mask.shape[1], x - source[void] % mask.shape[1])
        nearest = cv2.distanceTransform(void.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[void]
        assert (taken <= nearest * 1.05 + 1e-3).all()
    void = np.ones((3, 4), bool)
    assert not fill_void(void, np.full((3, 4), 255, np.uint8))[0].any()
