"""Segmentation metrics: confusion matrix and IoU, the background-threshold sweep of CAMs, and the contour F-measure.

Every class here sums integers, so that the order of images and parts changes nothing. A label map is (H,W) integers, 0
background, 1..C-1 classes, `ignore` (255) void: where the mask is void, nothing counts; where the prediction is void,
it is a miss of the mask's class and a false alarm of none.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numba import njit
from numpy import ndarray as Array

THRESHOLDS = np.arange(60) / 100  # of the published sweeps (SEAM, HFPL)
BOUND_TH = 0.008  # of the diagonal: DAVIS, Perazzi et al., CVPR 2016
_GROUP = 64  # classes that share one integer of bits


class _Counts:
    """Arrays of counts, named in `_names`, over one label space; merge adds those of another part of the data."""

    _names: tuple[str, ...]

    def __init__(self, num_classes: int, ignore: int):
        if not 1 <= num_classes <= ignore <= 65535:
            raise ValueError(f"{num_classes} classes and void {ignore}: void must be above the classes, at most 65535.")
        self.num_classes, self.ignore = num_classes, ignore

    def merge(self, other: _Counts) -> None:
        """Raises ValueError where other counts something else."""
        if self._key() != other._key():
            raise ValueError(f"{self._key()} and {other._key()} do not add up; make both with the same arguments.")
        for name in self._names:
            getattr(self, name).__iadd__(getattr(other, name))

    def _key(self) -> tuple:
        return type(self).__name__, self.num_classes, self.ignore

    def _labels(self, name: str, values: Array) -> Array:
        """(H,W) labels of this space -> uint16, so that one compiled kernel serves all."""
        if not isinstance(values, Array) or values.ndim != 2 or values.dtype.kind not in "uib" or not values.size:
            got = f"{values.dtype} {values.shape}" if isinstance(values, Array) else type(values).__name__
            raise ValueError(f"{name} must be a label map, (H,W) integers, not empty; got {got}.")
        outside = (values != self.ignore) & ((values >= self.num_classes) | (values < 0))
        if outside.any():
            space = f"0..{self.num_classes - 1} and {self.ignore}"
            raise ValueError(f"{name} holds {values[outside][0]}, outside {space}; check the data set it is read as.")
        return np.ascontiguousarray(values, np.uint16)

    def _pair(self, pred: Array, gt: Array) -> tuple[Array, Array]:
        pred, gt = self._labels("pred", pred), self._labels("gt", gt)
        if pred.shape != gt.shape:
            raise ValueError(f"pred is {pred.shape} and gt {gt.shape} (H,W); resize pred to gt.")
        return pred, gt


class Confusion(_Counts):
    """matrix (C, C+1) int64: pixels by class of the mask and class of the prediction, void predictions last."""

    _names = ("matrix",)

    def __init__(self, num_classes: int, ignore: int = 255):
        super().__init__(num_classes, ignore)
        self.matrix = np.zeros((num_classes, num_classes + 1), np.int64)

    def step(self, pred: Array, gt: Array) -> None:
        """Add an image. Raises ValueError for maps of two sizes, no integers, or values that are no class."""
        pairs = np.zeros((self.num_classes + 1,) * 2, np.int64)
        _count_pairs(*self._pair(pred, gt), pairs)
        self.matrix += pairs[:-1]

    def get_results(self) -> dict[str, float | Array]:
        """All in [0,1]. miou: mean over the classes that occur in masks or predictions; miou_absent_0: over all, with 0
        for those that occur in neither, as published evaluation scripts have it; pixel_accuracy; iou (C,), NaN for
        classes that occur in neither. Raises ValueError where no pixel has been counted.
        """
        if not self.matrix.any():
            raise ValueError("no pixel has been counted; call step(pred, gt) before get_results().")
        iou = _iou(self.matrix)
        means = {"miou": np.nanmean(iou), "miou_absent_0": np.nansum(iou) / iou.size}
        return means | {"pixel_accuracy": np.trace(self.matrix) / self.matrix.sum(), "iou": iou}


def _iou(matrix: Array) -> Array:
    """matrix (..., C, C+1) -> (..., C), NaN where a class is nowhere."""
    matched = np.diagonal(matrix, axis1=-2, axis2=-1)
    union = matrix.sum(axis=-1) + matrix[..., :-1].sum(axis=-2) - matched
    return np.where(union > 0, matched / np.maximum(union, 1), np.nan)


@njit(cache=True, nogil=True)
def _count_pairs(pred: Array, gt: Array, pairs: Array):
    """pairs (C+1, C+1): void, which is above the classes, counts in the last row and column."""
    void = pairs.shape[0] - 1
    for y in range(gt.shape[0]):
        for x in range(gt.shape[1]):
            pairs[min(gt[y, x], void), min(pred[y, x], void)] += 1


class ThresholdSweep(_Counts):
    """What CAMs give at every background threshold, from one look at each pixel.

    At threshold t the label is the arg-max of (t, scores of the present classes), and the first of equals: background
    wins ties, then the lower class. So the best class and the number of thresholds below its score say it all; labels
    are those of as many arg-maxes in float32, the type of the published scripts.

    counts (C, C, T+1) int64: pixels by class of the mask, best class, and number of thresholds below its score.
    """

    _names = ("counts",)

    def __init__(self, num_classes: int, ignore: int = 255, thresholds: Array = THRESHOLDS):
        super().__init__(num_classes, ignore)
        self.thresholds = np.asarray(thresholds, np.float32)
        if self.thresholds.ndim != 1 or not self.thresholds.size or not (np.diff(self.thresholds) > 0).all():
            raise ValueError("thresholds must be one ascending row of numbers.")
        self.counts = np.zeros((num_classes, num_classes, self.thresholds.size + 1), np.int64)

    def _key(self) -> tuple:
        return *super()._key(), *self.thresholds.tolist()

    def step(self, keys: Array, scores: Array, gt: Array) -> None:
        """Add an image: keys (P,) classes in 1..C-1, ascending; scores (P,H,W) finite, P may be 0; gt (H,W)."""
        gt, scores = self._labels("gt", gt), np.ascontiguousarray(scores, np.float32)
        keys = np.asarray(keys, np.int64).reshape(-1)
        if scores.shape != (keys.size, *gt.shape):
            raise ValueError(f"{keys.size} keys and a mask {gt.shape} need as many scores; got {scores.shape}.")
        if keys.size and (keys[0] < 1 or keys[-1] >= self.num_classes or not (np.diff(keys) > 0).all()):
            raise ValueError(f"keys {keys.tolist()} must ascend within 1..{self.num_classes - 1}.")
        pairs = np.zeros((self.num_classes + 1, keys.size + 1, self.thresholds.size + 1), np.int64)
        if not _count_winners(scores, gt, self.thresholds, pairs):
            raise ValueError("scores hold values that are not finite; check the maps.")
        self.counts[:, np.append(keys, 0)] += pairs[:-1]

    def confusion(self, index: int) -> Confusion:
        """The confusion matrix at thresholds[index]."""
        confusion = Confusion(self.num_classes, self.ignore)
        confusion.matrix[:] = self._matrices()[index]
        return confusion

    def _matrices(self) -> Array:
        """(T, C, C+1)"""
        above = self.counts[..., :0:-1].cumsum(axis=-1)[..., ::-1].transpose(2, 0, 1).copy()
        above[..., 0] += self.counts.sum(axis=(1, 2)) - above.sum(axis=-1)
        return np.pad(above, ((0, 0), (0, 0), (0, 1)))

    def get_results(self) -> dict[str, float | Array]:
        """thresholds, miou, miou_absent_0 (T,), see Confusion.get_results; best_threshold, the lowest with the best
        miou_absent_0 (its denominator is the same at all thresholds), and best: Confusion's results there."""
        if not self.counts.any():
            raise ValueError("no pixel has been counted; call step(keys, scores, gt) before get_results().")
        iou = _iou(self._matrices())
        absent_0 = np.nansum(iou, axis=1) / self.num_classes
        best = int(absent_0.argmax())
        thresholds = np.array([float(str(t)) for t in self.thresholds])  # 0.01, not 0.00999999977
        curves = {"thresholds": thresholds, "miou": np.nanmean(iou, axis=1), "miou_absent_0": absent_0}
        return curves | {"best_threshold": float(thresholds[best]), "best": self.confusion(best).get_results()}


@njit(cache=True, nogil=True)
def _count_winners(scores: Array, gt: Array, thresholds: Array, pairs: Array):
    """Whether all scores are finite. pairs (C+1, P+1, T+1): the last row is void; the last winner stands for none."""
    void = pairs.shape[0] - 1
    last = thresholds.size - 1
    per_unit = last / (thresholds[last] - thresholds[0]) if last else 0.0
    for y in range(gt.shape[0]):
        for x in range(gt.shape[1]):
            winner, score = scores.shape[0], thresholds[0]
            for p in range(scores.shape[0]):
                value = scores[p, y, x]
                if not np.isfinite(value):
                    return False
                if p == 0 or value > score:
                    winner, score = p, value
            # where evenly spaced thresholds have it, then to the very one: the first that is not below the score
            below = int(min(max((score - thresholds[0]) * per_unit, 0.0), last))
            while below > 0 and thresholds[below - 1] >= score:
                below -= 1
            while below <= last and thresholds[below] < score:
                below += 1
            pairs[min(gt[y, x], void), winner, below] += 1
    return True


class ContourF(_Counts):
    """Contour F-measure of DAVIS (Perazzi et al., CVPR 2016), per class over the data set, as HFPL (WACV 2024) has it.

    A pixel is on the contour of a class if the class has some but not all of it and its right, lower and lower right
    neighbours (seg2bmap of the Berkeley benchmark); it is matched if the other map has a contour pixel of that class
    within ceil(bound_th x diagonal) pixels.

    void "background", as published: void counts as background, so that it has contours of its own and objects of masks
    with void borders shrink. void "left_out": mask and prediction are both continued into the void from the nearest
    pixel that is none, so that nothing in the void is compared and it makes no contour.

    counts (4, C) int64: matched contour pixels of the prediction, all of them, matched ones of the mask, all of them.
    """

    _names = ("counts",)

    def __init__(self, num_classes: int, ignore: int = 255, void: str = "left_out", bound_th: float = BOUND_TH):
        super().__init__(num_classes, ignore)
        if void not in ("left_out", "background"):
            raise ValueError(f"void is 'left_out' or 'background', not {void!r}.")
        self.void, self.bound_th = void, bound_th
        self.counts = np.zeros((4, num_classes), np.int64)

    def _key(self) -> tuple:
        return *super()._key(), self.void, self.bound_th

    def step(self, pred: Array, gt: Array) -> None:
        """Add an image. Raises ValueError as Confusion.step does."""
        pred, gt = self._pair(pred, gt)
        void = gt == self.ignore
        if self.void == "left_out" and void.any():
            pred, gt = fill_void(void, pred, gt)
        offsets = _disk(int(np.ceil(self.bound_th * np.linalg.norm(gt.shape))))
        for start in range(1, self.num_classes, _GROUP):
            group = np.arange(start, min(start + _GROUP, self.num_classes))
            bits = np.zeros(self.ignore + 1, np.uint64)
            bits[group] = np.uint64(1) << np.arange(group.size, dtype=np.uint64)
            self.counts[:, group] += _match_contours(pred, gt, bits, offsets)[:, : group.size]

    def get_results(self) -> dict[str, float | Array]:
        """All in [0,1]. f (C,), NaN for the background and for classes without contours; mean_f over the classes with
        contours; mean_f_absent_1 over all but the background, with 1 for those without, as published."""
        found, num_pred, hit, num_gt = self.counts.astype(float)
        precision = np.where(num_pred > 0, found / np.maximum(num_pred, 1), 1)
        recall = np.where(num_gt > 0, hit / np.maximum(num_gt, 1), 1)
        f = 2 * precision * recall / np.where(precision + recall > 0, precision + recall, 1)
        absent = num_pred + num_gt == 0
        mean = f[~absent].mean() if not absent.all() else np.nan
        return {"mean_f": mean, "mean_f_absent_1": f[1:].mean(), "f": np.where(absent, np.nan, f)}


def fill_void(void: Array, *maps: Array) -> list[Array]:
    """Maps (H,W) with the pixels of void (bool) taking the value of a nearest pixel that is not (up to the 5x5 distance
    transform of OpenCV, exact within 2 %). Maps that are all void become 0."""
    if void.all():
        return [np.zeros_like(values) for values in maps]
    args = (cv2.DIST_L2, cv2.DIST_MASK_5)
    _, nearest = cv2.distanceTransformWithLabels(void.astype(np.uint8), *args, labelType=cv2.DIST_LABEL_PIXEL)
    # OpenCV numbers the pixels that are not void 1, 2, ... by rows
    source = np.flatnonzero(~void)[np.asarray(nearest, np.int32)[void] - 1]
    filled = [values.copy() for values in maps]
    for values in filled:
        values[void] = values.reshape(-1)[source]
    return filled


@lru_cache(maxsize=64)
def _disk(radius: int) -> Array:
    """(2, N) y and x of the pixels within radius of the origin, nearest first: where a match is likely."""
    yx = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1)
    distance2 = (yx**2).sum(axis=0)
    order = np.argsort(distance2, kind="stable")
    return yx[:, order[distance2[order] <= radius * radius]]


def _match_contours(pred: Array, gt: Array, bits: Array, offsets: Array) -> Array:
    """Counts (4, 64), of the classes that bits, one integer per label, gives a bit each."""
    pad = offsets.max()
    shape = np.add(gt.shape, 2 * pad)
    # np.zeros and np.empty of numpy, not of a kernel: memory that no contour comes near is then never touched
    of_pred, of_gt = (np.zeros(shape, np.uint64) for _ in range(2))
    where = np.empty((2, gt.size), np.int64)
    found = [
        w[: _draw_contours(m, bits, pad, b, w)] for m, b, w in zip((pred, gt), (of_pred, of_gt), where, strict=True)
    ]
    steps = offsets[0] * shape[1] + offsets[1]
    counts = np.zeros((4, _GROUP), np.int64)
    _count_matches(of_pred, of_gt, found[0], steps, counts[:2])
    _count_matches(of_gt, of_pred, found[1], steps, counts[2:])
    return counts


@njit(cache=True, nogil=True)
def _draw_contours(label: Array, bits: Array, pad: int, out: Array, where: Array):
    """Sets in out (H+2pad, W+2pad) the bits of the classes whose contour a pixel is on; the label map goes on beyond
    its edges as it is there. Returns how many such pixels there are; where: their indices in out.ravel()."""
    h, w = label.shape
    n = 0
    for y in range(h):
        below = min(y + 1, h - 1)
        for x in range(w):
            right = min(x + 1, w - 1)
            a, b, c, d = label[y, x], label[y, right], label[below, x], label[below, right]
            if a != b or a != c or a != d:
                a, b, c, d = bits[a], bits[b], bits[c], bits[d]
                on = (a | b | c | d) & ~(a & b & c & d)
                if on != np.uint64(0):
                    out[y + pad, x + pad] = on
                    where[n] = (y + pad) * out.shape[1] + x + pad
                    n += 1
    return n


@njit(cache=True, nogil=True)
def _count_matches(mine: Array, other: Array, where: Array, steps: Array, counts: Array):
    """counts[0]: my contour pixels by class that have one of the other's within the steps; counts[1]: all of mine."""
    one, none = np.uint64(1), np.uint64(0)
    mine, other = mine.ravel(), other.ravel()
    for i in where:
        wanted, found = mine[i], none
        for step in steps:
            found |= other[i + step]
            if wanted & ~found == none:
                break
        k = 0
        while wanted != none:
            if wanted & one:
                counts[1, k] += 1
                counts[0, k] += np.int64(found & one)
            wanted >>= one
            found >>= one
            k += 1
