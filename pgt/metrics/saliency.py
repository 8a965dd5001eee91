"""Saliency metrics: the numbers of PySODMetrics (1.6.2), about seven times as fast.

MAE (Perazzi et al., CVPR 2012), F-measure and precision-recall curve (Achanta et al., CVPR 2009, beta^2 = 0.3),
weighted F (Margolin et al., CVPR 2014, beta^2 = 1), S-measure (Fan et al., ICCV 2017, alpha = 0.5), E-measure (Fan et
al., IJCAI 2018).

Masks are binary, so most of it is counting: the levels of the foreground and of the background, counted once, give F,
E, precision and recall at all 256 thresholds. Only the S-measure (four blocks) and the weighted F (nearest foreground
pixel, 7x7 Gaussian) ask where the pixels lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numba import njit
from numpy import ndarray as Array

BETA2 = 0.3
LEVELS = 256
EPS = np.spacing(1.0)  # added where PySODMetrics adds it: it decides the value of images of one pixel

CURVES = ("precision", "recall", "f", "e")
MEANS = ("mae", "adp_f", "weighted_f", "s_measure", "adp_e")


@dataclass(frozen=True)
class SaliencyScores:
    """The scores of one image; curves are float64 (256,), entry i being threshold 255 - i.

    All lie in [0, 1] but the E-measure: it divides by one pixel less than there are, so it can end slightly above 1,
    and for an image of one pixel it is 0 or 1 / 2.2e-16.
    """

    name: str
    mae: float
    adp_f: float
    weighted_f: float
    s_measure: float
    adp_e: float
    precision: Array
    recall: Array
    f: Array
    e: Array

    mean_f = property(lambda self: float(self.f.mean()))
    max_f = property(lambda self: float(self.f.max()))
    mean_e = property(lambda self: float(self.e.mean()))
    max_e = property(lambda self: float(self.e.max()))


class SaliencyMetrics:
    """Gathers a data set image by image, as sums: its memory does not grow with the images.

    Workers can fill one each (it pickles; `state` is for JSON) and merge them: up to 30 million images the sums are
    exact, so results are the same bits in whatever order and parts images come. normalize: see `saliency_scores`.
    """

    def __init__(self, normalize: bool = True):
        self.normalize = normalize
        self.n = 0
        self._sums: dict[str, Any] = dict.fromkeys(MEANS + CURVES, 0.0)

    def step(self, pred: Array, gt: Array, name: str = "") -> None:
        """Add an image; arguments and errors are those of `saliency_scores`."""
        self.add(saliency_scores(pred, gt, self.normalize, name))

    def add(self, scores: SaliencyScores) -> None:
        """Add an image that has been scored already."""
        self.n += 1
        self._sums = {key: total + _exactly(getattr(scores, key)) for key, total in self._sums.items()}

    def merge(self, other: SaliencyMetrics) -> None:
        """Add the images of `other`. Raises ValueError if it normalises differently."""
        if self.normalize != other.normalize:
            raise ValueError("metrics with and without normalize do not mix; give both the same setting.")
        self.n += other.n
        self._sums = {key: total + other._sums[key] for key, total in self._sums.items()}

    def state(self) -> dict[str, Any]:
        """All that it holds, in numbers and lists, for `of_state`."""
        sums = {key: np.asarray(total).tolist() for key, total in self._sums.items()}
        return {"normalize": self.normalize, "n": self.n, "sums": sums}

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> SaliencyMetrics:
        found = cls(state["normalize"])
        found.n, found._sums = state["n"], {key: np.array(total) for key, total in state["sums"].items()}
        return found

    def get_results(self) -> dict[str, float | Array]:
        """Means over the images: mae, adp_f, mean_f, max_f, weighted_f, s_measure, adp_e, mean_e, max_e (float), and
        precision, recall, f, e (float64 (256,), thresholds 255 to 0). Raises ValueError if there is no image.

        mean_f, max_f, mean_e and max_e are taken from the averaged curve, as PySODMetrics' reports do: max_f is the
        best F that one threshold for all images reaches, not the mean of each image's best.
        """
        if not self.n:
            raise ValueError("no image has been scored; call step(pred, gt) before get_results().")
        mean = {key: total.sum(axis=0) / self.n for key, total in self._sums.items()}
        return {
            **{key: float(mean[key]) for key in MEANS},
            **{f"mean_{key}": float(mean[key].mean()) for key in ("f", "e")},
            **{f"max_{key}": float(mean[key].max()) for key in ("f", "e")},
            **{key: mean[key] for key in CURVES},
        }


def _exactly(value: float | Array) -> Array:
    """-> (2, ...), which add up to value: a multiple of 2^-28, and one of 2^-57. Sums of either are exact as long as
    they need no more than the 53 bits of a float."""
    high = np.rint(np.multiply(value, 2.0**28)) / 2.0**28
    return np.stack([high, np.rint((value - high) * 2.0**57) / 2.0**57])


def saliency_scores(pred: Array, gt: Array, normalize: bool = True, name: str = "") -> SaliencyScores:
    """Scores of a prediction against its mask.

    pred (H, W): float32 or float64 in [0, 1], or uint8, which is divided by 255. normalize then stretches it to minimum
    0 and maximum 1; a constant map stays as it is. gt (H, W): bool, or uint8 with the foreground above 128 (so a uint8
    mask of 0 and 1 is all background: give `mask > 0`). name: kept in the result, to find the image again.

    Conventions, all as in PySODMetrics:
    - A pixel is found at threshold t if floor(255 pred) >= t; at the adaptive threshold, twice the mean but at most 1,
      if pred >= it. So a map of zeros finds every pixel there. float32 maps get their levels in float32.
    - Precision is 0 if nothing is found, recall is 0 if there is no foreground, F is 0 if either is.
    - No foreground: all F and the weighted F are 0 whatever the prediction, the S-measure is 1 - mean, the E-measure
      counts the pixels not found. No background: the S-measure is the mean, the E-measure counts the pixels found.
    - A block of the S-measure in which both pred and gt are flat scores 1 (be they equal or not), and 0 if only one is
      flat. A flat pred other than 0 and 1 is taken for flat only if its mean happens to round to its value.
    Departures:
    - With the centre of the foreground in the last row or column, blocks of the S-measure are empty, and PySODMetrics
      gives NaN; here they count nothing, as their area says.
    - PySODMetrics divides float maps by 255 too if it normalises, which shows in constant maps only.

    Raises ValueError for a wrong type, shape, dtype or range.
    """
    _validate(pred, gt)
    pred, levels = _normalise(np.ascontiguousarray(pred), normalize)
    gt = np.ascontiguousarray(gt if gt.dtype == bool else gt > 128)
    exact = pred.astype(np.float64, copy=False)
    hist, (adp_fp, adp_tp) = _tally(exact, levels, gt, float(min(2 * pred.mean(), 1)))
    num_bg, num_fg = hist.sum(axis=1)
    fp, tp = hist[:, ::-1].cumsum(axis=1)  # levels >= 255, >= 254, ..., >= 0
    curves = *_precision_recall_f(tp, fp, num_fg), _e_measure(tp, fp, num_fg, num_bg)
    (bg_mean, bg_std), (fg_mean, fg_std) = _moments(exact, gt)
    if num_fg == 0:
        s_measure = 1 - bg_mean
    elif num_bg == 0:
        s_measure = fg_mean
    else:
        objects = num_fg * _object_score(fg_mean, fg_std) + num_bg * _object_score(1 - bg_mean, bg_std)
        s_measure = max(0, (objects / gt.size + _region_score(pred, gt)) / 2)
    return SaliencyScores(
        name=name,
        mae=float((num_bg * bg_mean + num_fg * (1 - fg_mean)) / gt.size),
        adp_f=float(_precision_recall_f(adp_tp, adp_fp, num_fg)[2]),
        weighted_f=_weighted_f(exact, gt) if num_fg else 0.0,
        s_measure=float(s_measure),
        adp_e=float(_e_measure(adp_tp, adp_fp, num_fg, num_bg)),
        **dict(zip(CURVES, curves, strict=True)),
    )


def _validate(pred: Array, gt: Array) -> None:
    if not (isinstance(pred, Array) and isinstance(gt, Array)):
        raise ValueError(f"pred and gt must be numpy arrays, not {type(pred).__name__} and {type(gt).__name__}.")
    if pred.ndim != 2 or pred.shape != gt.shape or pred.size == 0:
        shapes = f"{pred.shape} and {gt.shape}"
        raise ValueError(f"pred and gt must share one shape (H, W), not empty, got {shapes}; resize pred to gt.")
    if pred.dtype not in (np.uint8, np.float32, np.float64):
        raise ValueError(f"pred must be uint8, float32 or float64, got {pred.dtype}; convert it.")
    if gt.dtype not in (np.uint8, np.bool_):
        raise ValueError(f"gt must be bool or uint8 (foreground above 128), got {gt.dtype}; compare it to get bool.")
    if pred.dtype != np.uint8 and not (pred.min() >= 0 and pred.max() <= 1):  # NaN fails as well
        raise ValueError(f"a float pred must lie in [0, 1], got {pred.min()} to {pred.max()}; scale or clip it.")


def _normalise(pred: Array, normalize: bool) -> tuple[Array, Array]:
    """Prediction in [0, 1] and its uint8 levels."""
    if pred.dtype == np.uint8:  # only 256 values: work on those, and look the pixels up
        values, levels = _normalise(np.arange(LEVELS).clip(pred.min(), pred.max()) / 255, normalize)
        return cv2.LUT(pred, values), cv2.LUT(pred, levels)
    low, high = pred.min(), pred.max()
    if normalize and low != high:
        pred = (pred - low) / (high - low)
    return pred, (pred * 255).astype(np.uint8)


@njit(cache=True, nogil=True)
def _tally(pred: Array, levels: Array, gt: Array, threshold: float):
    """Of the background [0] and the foreground [1]: hist int64 (2, 256) of the levels, and found int64 (2,), how many
    pixels have pred >= threshold."""
    hist = np.zeros((2, LEVELS), np.int64)
    found = np.zeros(2, np.int64)
    for y in range(gt.shape[0]):
        for x in range(gt.shape[1]):
            inside = int(gt[y, x])
            hist[inside, levels[y, x]] += 1
            found[inside] += pred[y, x] >= threshold
    return hist, found


def _precision_recall_f(tp: Any, fp: Any, num_fg: int) -> tuple[Any, Any, Any]:
    """Precision, recall and F of counts (scalars or arrays); 0/0 is 0."""
    precision = tp / np.maximum(tp + fp, 1)
    recall = tp / max(num_fg, 1)
    weighted = BETA2 * precision + recall
    return precision, recall, (1 + BETA2) * precision * recall / np.where(weighted == 0, 1, weighted)


def _e_measure(tp: Any, fp: Any, num_fg: int, num_bg: int) -> Any:
    """E-measure of binary maps, from their counts (scalars or arrays)."""
    size = num_fg + num_bg
    found = tp + fp
    if num_fg == 0:
        aligned = size - found
    elif num_bg == 0:
        aligned = found
    else:
        pred_mean, gt_mean = found / size, num_fg / size
        kinds = ((tp, 1, 1), (fp, 1, 0), (num_fg - tp, 0, 1), (num_bg - fp, 0, 0))  # count, pred, gt
        aligned = sum(count * _alignment(pred - pred_mean, gt - gt_mean) for count, pred, gt in kinds)
    return aligned / (size - 1 + EPS)


def _alignment(a: Any, b: float) -> Any:
    """Enhanced alignment of two values less their means, in [0, 1]."""
    return (2 * a * b / (a * a + b * b + EPS) + 1) ** 2 / 4


@njit(cache=True, nogil=True)
def _moments(pred: Array, gt: Array):
    """(mean, standard deviation of n - 1) of pred in the background, and in the foreground; 0 where empty."""
    h, w = gt.shape
    num_fg, fg, bg = 0, 0.0, 0.0
    for y in range(h):
        for x in range(w):
            if gt[y, x]:
                num_fg += 1
                fg += pred[y, x]
            else:
                bg += pred[y, x]
    num_bg = h * w - num_fg
    fg_mean, bg_mean = fg / max(num_fg, 1), bg / max(num_bg, 1)
    fg, bg = 0.0, 0.0  # now the squared deviations
    for y in range(h):
        for x in range(w):
            if gt[y, x]:
                fg += (pred[y, x] - fg_mean) ** 2
            else:
                bg += (pred[y, x] - bg_mean) ** 2
    fg_std, bg_std = np.sqrt(fg / max(num_fg - 1, 1)), np.sqrt(bg / max(num_bg - 1, 1))
    return (bg_mean, bg_std), (fg_mean, fg_std)


def _object_score(mean: float, std: float) -> float:
    """Object part of the S-measure for one class: mean agreement with the mask, lowered by its spread."""
    return 2 * mean / (mean * mean + 1 + std + EPS)


def _region_score(pred: Array, gt: Array) -> float:
    """Region part of the S-measure: SSIM of the four blocks around the foreground's centre, by area."""
    rows, cols = np.count_nonzero(gt, axis=1), np.count_nonzero(gt, axis=0)
    cy, cx = (round(int(count @ np.arange(count.size)) / int(count.sum())) + 1 for count in (rows, cols))
    blocks = [np.s_[y, x] for y in (np.s_[:cy], np.s_[cy:]) for x in (np.s_[:cx], np.s_[cx:])]
    return sum(_ssim(pred[b], gt[b]) * gt[b].size for b in blocks if gt[b].size) / gt.size


def _ssim(pred: Array, gt: Array) -> float:
    # Exact comparisons with 0 decide between 0 and 1 in flat blocks: the mean must round as numpy's does.
    x, y = pred.mean(), gt.mean()
    dx, dy = np.subtract(pred, x, dtype=np.float64), gt - y
    xx, xy, yy = (np.einsum("ij,ij", a, b) / (gt.size - 1 + EPS) for a, b in ((dx, dx), (dx, dy), (dy, dy)))
    numerator = 4 * x * y * xy
    denominator = (x * x + y * y) * (xx + yy)
    if numerator == 0:
        return float(denominator == 0)
    return numerator / (denominator + EPS)


_GAUSS = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 5**2))  # 7x7, sigma 5, separable
_GAUSS /= _GAUSS.sum()

# Of background pixels, by squared distance to the foreground; from 265 pixels on it is 2 to the last digit.
_IMPORTANCE = 2 - np.exp(np.log(0.5) / 5 * np.sqrt(np.arange(265**2 + 1)))


def _weighted_f(pred: Array, gt: Array) -> float:
    """Weighted F for a float64 pred and a gt with foreground.

    Foreground: an error counts no more than the average error around it, for which pixels outside take the error of
    their nearest foreground pixel. Background: the farther away, the more an error counts, up to twice.
    """
    error, false_pos = _spread_errors(pred, gt, _IMPORTANCE)
    around = cv2.sepFilter2D(error, cv2.CV_64F, _GAUSS, _GAUSS, borderType=cv2.BORDER_CONSTANT)
    fg_error = np.minimum(error[gt], around[gt])
    true_pos = fg_error.size - fg_error.sum()
    recall = 1 - fg_error.mean()
    precision = true_pos / (true_pos + false_pos + EPS)
    return float(2 * recall * precision / (recall + precision + EPS))


@njit(cache=True, nogil=True)
def _spread_errors(pred: Array, gt: Array, importance: Array):
    """Errors of the foreground, spread over the background, and the weighted sum of the background's own.

    pred: float64 (H, W); gt: bool (H, W) with foreground; importance: weights by squared distance, the last one for all
    beyond. Returns error (H, W), 1 - pred at the nearest foreground pixel, and the sum. Distances are exact; of equally
    near pixels the one in the lowest column counts, and of those the one in the lowest row, as
    scipy.ndimage.distance_transform_edt chooses.
    """
    h, w = gt.shape
    row = _nearest_row(gt)
    column, distance2 = np.empty(w, np.int64), np.empty(w, np.int64)
    height, hull = np.empty(w, np.int64), np.empty(w, np.int64)
    error = np.empty((h, w))
    total = 0.0
    for y in range(h):
        _nearest_column(row[y], y, height, hull, column, distance2)
        for x in range(w):
            error[y, x] = 1 - pred[row[y, column[x]], column[x]]
            if not gt[y, x]:
                total += pred[y, x] * importance[min(distance2[x], importance.size - 1)]
    return error, total


@njit(cache=True, nogil=True)
def _nearest_row(gt: Array):
    """(H, W) row of the nearest foreground pixel of the column, the upper one of two; -1 in empty columns."""
    h, w = gt.shape
    row = np.empty((h, w), np.int32)
    seen = np.full(w, -1, np.int32)
    for y in range(h):
        for x in range(w):
            if gt[y, x]:
                seen[x] = y
            row[y, x] = seen[x]
    for y in range(h - 1, -1, -1):  # on the way up, seen starts as the last row of each column
        for x in range(w):
            if gt[y, x]:
                seen[x] = y
            if row[y, x] < 0 or seen[x] - y < y - row[y, x]:
                row[y, x] = seen[x]
    return row


@njit(cache=True, nogil=True)
def _nearest_column(row: Array, y: int, height: Array, hull: Array, column: Array, distance2: Array):
    """For each pixel of row y: column of its nearest foreground pixel, and squared distance to it.

    row: (W,) row of the nearest foreground pixel in each column, -1 for none. height, hull: scratch (W,).
    Column c offers the distance (x - c)^2 + height[c], a parabola; the columns on the lower envelope of
    all, the hull, serve one stretch of x each (Maurer, Qi and Raghavan, PAMI 2003).
    """
    top = -1
    for x in range(row.size):
        if row[x] >= 0:
            height[x] = (row[x] - y) ** 2
            while top >= 1 and _is_hidden(hull[top - 1], hull[top], x, height):
                top -= 1
            top += 1
            hull[top] = x
    i = 0
    for x in range(row.size):
        best = (hull[i] - x) ** 2 + height[hull[i]]
        while i < top:
            following = (hull[i + 1] - x) ** 2 + height[hull[i + 1]]
            if following >= best:
                break
            best = following
            i += 1
        column[x] = hull[i]
        distance2[x] = best


@njit(cache=True, nogil=True)
def _is_hidden(a: int, b: int, c: int, height: Array):
    """Whether the parabola of column b is nowhere lowest beside those of a < b and c > b."""
    ab, bc = b - a, c - b
    return (ab + bc) * height[b] - bc * height[a] - ab * height[c] > ab * bc * (ab + bc)
