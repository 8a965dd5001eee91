"""SLIC superpixels (Achanta et al., TPAMI 2012), label for label those of scikit-image 0.26, and means over them."""

from __future__ import annotations

from functools import partial
from typing import Any

import cv2
import numpy as np
from numba import njit
from numpy import ndarray as Array

# Colour space of the clustering: whether OpenCV's 8-bit Lab / 255 replaces the picture, whether SLIC converts to Lab.
LAB_MODES = {
    "single": (True, False),  # OpenCV's Lab, no further conversion
    "published": (True, True),  # taken for RGB and converted again, as run_slic of generatePGT does
    "rgb": (False, True),  # RGB, one conversion, in the units of CIE Lab (L of 0..100)
}
ITERATIONS = 10  # scikit-image's max_num_iter
MIN_SIZE, MAX_SIZE = 0.5, 3  # of a connected region, in mean superpixels


def slic(
    image: Array, n_segments: int = 200, compactness: float = 20, lab: str = "single", num_iter: int = ITERATIONS
) -> Array:
    """Superpixels of an image (H, W, 3) uint8 RGB -> labels (H, W) int32, 0..n-1, every one in use and connected.

    n_segments: roughly how many; compactness: weight of position against colour, > 0. lab: a key of LAB_MODES, the
    colour space. num_iter: rounds of k-means, 1 or more.
    Raises ValueError for another image, no segments, a compactness of 0 or less, an unknown mode.
    """
    image = np.ascontiguousarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"image is {image.dtype} {image.shape}: give uint8 RGB of shape (H, W, 3)")
    if n_segments < 1 or num_iter < 1 or not compactness > 0:
        raise ValueError(f"n_segments {n_segments} and num_iter {num_iter} must be 1 or more, {compactness=} above 0")
    if lab not in LAB_MODES:
        raise ValueError(f"lab is {lab!r}: give one of {tuple(LAB_MODES)}")
    labels = _slic(image, n_segments, compactness, num_iter, *LAB_MODES[lab])
    used = np.bincount(labels.reshape(-1)) > 0
    return (np.cumsum(used, dtype=np.int32) - np.int32(1))[labels]


def superpixel_mean(saliency: Array, superpixel: Array) -> Array:
    """Every pixel of a map (H, W) takes the mean of its superpixel -> (H, W) float64.

    superpixel: labels (H, W) >= 0, contiguous or not.  Raises ValueError if shapes differ or a label is negative.
    """
    saliency, superpixel = np.asarray(saliency), np.asarray(superpixel)
    if saliency.shape != superpixel.shape:
        raise ValueError(f"saliency {saliency.shape} and superpixel {superpixel.shape} differ: resize one of them")
    if superpixel.dtype.kind not in "iu" or (superpixel.size and superpixel.min() < 0):
        raise ValueError("superpixel must hold integer labels of 0 or more")
    flat = superpixel.reshape(-1)
    count = np.bincount(flat)
    total = np.bincount(flat, saliency.reshape(-1).astype(np.float64))
    return (total / np.maximum(count, 1))[superpixel]


def threshold_by_mean(saliency: Array, high: float = 1.2, low: float = 0.7) -> Array:
    """Grey map (H, W) uint8: values above high * mean become 255, then those below low * mean 0; the rest stays.

    The mean is that of the map as it comes in.  (run_slic of generatePGT; MFNet's second stage uses 1.5 and 0.8.)
    Raises ValueError for another dtype.
    """
    saliency = np.asarray(saliency)
    if saliency.dtype != np.uint8:
        raise ValueError(f"saliency is {saliency.dtype}: give grey levels 0..255 as uint8")
    mean = saliency.mean() if saliency.size else 0.0
    raised = np.where(saliency > high * mean, np.uint8(255), saliency)
    return np.where(raised < low * mean, np.uint8(0), raised)


# ---- scikit-image's arithmetic, operation by operation, so that the labels are the same ----


def _slic(image: Array, n_segments: int, compactness: float, num_iter: int, opencv_lab: bool, to_lab: bool) -> Array:
    height, width = image.shape[:2]
    level = np.arange(256, dtype=np.float64)
    if opencv_lab:
        image, level = cv2.cvtColor(image, cv2.COLOR_RGB2LAB), level / 255
    else:
        level = level * (1 / 255)
    colour = _lab(image, _stretch(level, image)) if to_lab else _stretch(level, image)[image]
    planes = np.ascontiguousarray(np.moveaxis(colour * (1.0 / compactness), 2, 0))
    start, step = _grid(height, width, n_segments)
    ys, xs = np.arange(start[0], height, step[0]), np.arange(start[1], width, step[1])
    centre = np.zeros((len(ys) * len(xs), 5))
    centre[:, 0], centre[:, 1] = np.repeat(ys, len(xs)), np.tile(xs, len(ys))
    reach = 2 * _grid(height, width, len(centre))[1]
    longest = np.float32(step.max())  # scikit-image hands the step over in single precision
    labels = _cluster(planes, centre, reach, 1.0 / np.float64(longest * longest), num_iter)
    size = height * width / len(centre)
    return _connect(labels, int(MIN_SIZE * size), int(MAX_SIZE * size))


def _stretch(level: Array, image: Array) -> Array:
    """Grey levels stretched so that the least value of the image is 0 and its largest 1."""
    least, largest = level[image.min()], level[image.max()]
    level = level - least
    return level / (largest - least) if largest != least else level


_XYZ_FROM_RGB = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])  # D65, 2 degrees


def _lab(image: Array, level: Array) -> Array:
    """CIE Lab (H, W, 3) float64 of an 8-bit image whose grey levels stand for the sRGB values `level` (256,)."""
    linear = np.where(level > 0.04045, np.power((np.maximum(level, 0) + 0.055) / 1.055, 2.4), level / 12.92)
    xyz = (linear[image] @ _XYZ_FROM_RGB.T) / _WHITE
    f = np.cbrt(xyz)
    dark = xyz <= 0.008856
    f[dark] = 7.787 * xyz[dark] + 16.0 / 116.0
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], axis=-1)


def _grid(height: int, width: int, count: int) -> tuple[Array, Array]:
    """First point (2,) and step (2,) along y and x of a regular grid of about `count` points."""
    if height * width <= count:
        return np.zeros(2, int), np.ones(2, int)
    sides = np.array([height, width], float)
    step = np.full(2, (sides.prod() / count) ** 0.5)
    if sides.min() < step[0]:  # a strip narrower than a step has one row of points
        short = int(np.argmin(sides))
        step[short], step[1 - short] = sides[short], sides[1 - short] / count
    return (step // 2).astype(int), np.round(step).astype(int)


_kernel = partial(njit, cache=True, nogil=True, error_model="numpy")
TILE_ROWS, TILE_COLUMNS = 8, 16  # pixels that share one bound on the distance


@_kernel
def _cluster(planes: Array, centre: Array, reach: Array, weight: float, num_iter: int):
    """k-means: planes (3, H, W) scaled colours, centre (K, 5) of y, x, colours -> nearest centre (H, W).

    A pixel goes to the nearest of the centres within reach, the first of them at equal distance.  scikit-image measures
    every pixel in reach of every centre.  Here the distance of the last round and the way its centre has gone bound the
    new distance from above, that in position alone bounds it from below: most pixels need not be looked at.
    """
    _, height, width = planes.shape
    nearest = np.zeros((height, width), np.int32)
    distance = np.empty((height, width))
    bound = np.full(((height - 1) // TILE_ROWS + 1, (width - 1) // TILE_COLUMNS + 1), np.inf)
    for _ in range(num_iter):
        distance[:] = np.inf
        for k in range(centre.shape[0]):
            if not np.isnan(centre[k, 0]):  # else it has lost all its pixels
                _gather(planes, centre[k], reach, weight, np.int32(k), bound, nearest, distance)
        before = centre.copy()
        _move(planes, nearest, centre)
        _bound(nearest, distance, _way(before, centre, weight), reach, weight, bound)
    return nearest


@_kernel
def _gather(
    planes: Array, centre: Array, reach: Array, weight: float, k: Any, bound: Array, nearest: Array, distance: Array
):
    """Centre k takes the pixels within reach that are nearer to it, tile by tile."""
    top, bottom = _window(centre[0], reach[0], nearest.shape[0])
    left, right = _window(centre[1], reach[1], nearest.shape[1])
    for tile in range(top // TILE_ROWS, (bottom - 1) // TILE_ROWS + 1):
        dy = _gap(centre[0], tile, TILE_ROWS)
        first, last = left // TILE_COLUMNS, (right - 1) // TILE_COLUMNS
        while first <= last and _too_far(dy, _gap(centre[1], first, TILE_COLUMNS), weight, bound[tile, first]):
            first += 1
        while first <= last and _too_far(dy, _gap(centre[1], last, TILE_COLUMNS), weight, bound[tile, last]):
            last -= 1
        start, stop = max(left, first * TILE_COLUMNS), min(right, (last + 1) * TILE_COLUMNS)
        if start < stop:
            for y in range(max(top, tile * TILE_ROWS), min(bottom, (tile + 1) * TILE_ROWS)):
                _assign(planes, y, start, stop, centre, weight, k, nearest, distance)


@_kernel
def _window(middle: float, reach: int, size: int):
    return int(max(middle - reach, 0)), int(min(middle + reach + 1, size))


@_kernel
def _gap(middle: float, tile: int, size: int):
    """Distance along one axis from a centre to the nearest pixel of a tile."""
    return max(tile * size - middle, middle - (tile * size + size - 1), 0.0)


@_kernel
def _too_far(dy: float, dx: float, weight: float, bound: float):
    return (dy * dy + dx * dx) * weight > bound


@_kernel
def _way(before: Array, after: Array, weight: float):
    """How far each centre has moved, in the metric of the distance."""
    way = np.zeros(len(before))
    for k in range(len(before)):
        step = (after[k] - before[k]) ** 2
        way[k] = np.sqrt((step[0] + step[1]) * weight + step[2] + step[3] + step[4])
    return way


@_kernel
def _bound(nearest: Array, distance: Array, way: Array, reach: Array, weight: float, bound: Array):
    """The largest distance that a pixel of each tile can have to its centre of the last round: triangle inequality."""
    height, width = nearest.shape
    for tile in range(bound.shape[0]):
        for column in range(bound.shape[1]):
            farthest, longest = 0.0, 0.0
            for y in range(tile * TILE_ROWS, min((tile + 1) * TILE_ROWS, height)):
                for x in range(column * TILE_COLUMNS, min((column + 1) * TILE_COLUMNS, width)):
                    farthest = max(farthest, distance[y, x])
                    longest = max(longest, way[nearest[y, x]])
            largest = (np.sqrt(farthest) + longest) ** 2 * (1 + 1e-9)  # more than rounding
            in_reach = largest < min(reach[0], reach[1]) ** 2 * weight
            bound[tile, column] = largest if in_reach else np.inf


@_kernel
def _assign(
    planes: Array, y: int, start: int, stop: int, centre: Array, weight: float, k: Any, nearest: Array, distance: Array
):
    """Centre k takes the pixels start..stop-1 of row y that are nearer to it."""
    colour0, colour1, colour2 = planes[0, y, start:stop], planes[1, y, start:stop], planes[2, y, start:stop]
    label, least = nearest[y, start:stop], distance[y, start:stop]
    dy2 = (centre[0] - y) * (centre[0] - y)
    x, c0, c1, c2 = centre[1], centre[2], centre[3], centre[4]
    for i in range(label.shape[0]):
        dx = x - np.float64(np.int32(start + i))
        t0, t1, t2 = colour0[i] - c0, colour1[i] - c1, colour2[i] - c2
        d = (dy2 + dx * dx) * weight + ((t0 * t0 + t1 * t1) + t2 * t2)
        closer = d < least[i]
        label[i] = k if closer else label[i]
        least[i] = d if closer else least[i]


@_kernel
def _move(planes: Array, nearest: Array, centre: Array):
    """Centres go to the mean of their pixels, which are added in raster order as scikit-image does."""
    count = np.zeros(centre.shape[0])
    centre[:] = 0
    for y in range(nearest.shape[0]):
        for x in range(nearest.shape[1]):
            k = nearest[y, x]
            count[k] += 1
            centre[k, 0] += y
            centre[k, 1] += x
            centre[k, 2] += planes[0, y, x]
            centre[k, 3] += planes[1, y, x]
            centre[k, 4] += planes[2, y, x]
    for k in range(centre.shape[0]):
        for c in range(5):
            centre[k, c] /= count[k]


@_kernel
def _connect(labels: Array, min_size: int, max_size: int):
    """Connected regions of equal label get labels 0, 1, ... in raster order; those below min_size join a neighbour.

    A region is cut off at max_size pixels.
    """
    height, width = labels.shape
    region = np.full((height, width), -1, np.int32)
    queue = np.empty((max(max_size, 1), 2), np.int32)
    count = 0
    for y in range(height):
        for x in range(width):
            if region[y, x] >= 0:
                continue
            size, beside = _flood(labels, region, y, x, count, max_size, queue)
            if size >= min_size:
                count += 1
                continue
            for i in range(size):
                region[queue[i, 0], queue[i, 1]] = beside
    return region


@_kernel
def _flood(labels: Array, region: Array, y: int, x: int, own: int, max_size: int, queue: Array):
    """Breadth-first: numbers the region of (y, x) with `own` -> (its size, the last other region seen beside it)."""
    height, width = labels.shape
    region[y, x] = own
    queue[0, 0], queue[0, 1] = y, x
    beside, size, done = own, 1, 0
    while done < size < max_size:
        for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            v, u = queue[done, 0] + dy, queue[done, 1] + dx
            if not (0 <= v < height and 0 <= u < width):
                continue
            if region[v, u] < 0 and labels[v, u] == labels[y, x]:
                region[v, u] = own
                queue[size, 0], queue[size, 1] = v, u
                size += 1
                if size >= max_size:
                    break
            elif region[v, u] >= 0 and region[v, u] != own:
                beside = region[v, u]
        done += 1
    return size, beside
