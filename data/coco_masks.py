"""Label maps from COCO's annotations: the very pixels that pycocotools gives, drawn without Python's lock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numba import njit

from misc.files.rle import decode_counts

_FARTHEST = 1e5  # pixels from the origin: what lies beyond is no coordinate
_FINE = 5  # points of a boundary a pixel


def draw_label(
    annotations: Sequence[Mapping], shape: tuple[int, int], labels: Mapping[int, int], ignore: int = 255
) -> np.ndarray:
    """-> (H,W) uint8: 0, and each annotation's labels[category_id], or ignore where it is a crowd, in their order: what
    comes later covers what was there. Raises OSError, with the reason, for an annotation that is damaged.
    """
    height, width = shape
    columns = np.zeros(width * height, np.uint8)  # one column after the other, as COCO counts pixels
    for annotation in annotations:
        value = ignore if annotation.get("iscrowd") else labels[annotation["category_id"]]
        try:
            for changes in _changes(annotation["segmentation"], height, width):
                _paint(columns, changes, value)
        except (KeyError, ValueError, TypeError, IndexError, OverflowError) as e:
            reason = f"{type(e).__name__}: {e}"
            raise OSError(f"annotation {annotation.get('id')} has no usable segmentation ({reason})") from e
    return np.ascontiguousarray(columns.reshape(width, height).T)


def _changes(segmentation: list | Mapping, height: int, width: int) -> list[np.ndarray]:
    """Of each part, ascending, the pixels from which on it is inside, outside, inside, ..."""
    if isinstance(segmentation, list):
        outlines = [np.asarray(points, np.float64) for points in segmentation]
        for points in outlines:
            if points.ndim != 1 or points.size % 2 or not (np.abs(points) < _FARTHEST).all():
                raise ValueError("a polygon is no row of x, y in pixels")
        return [np.sort(_crossings(points, height, width)) for points in outlines if points.size]
    counts = segmentation["counts"]
    counts = np.array(decode_counts(counts) if isinstance(counts, str) else counts, np.int64)
    if list(segmentation["size"]) != [height, width] or (counts < 0).any() or counts.sum() != height * width:
        raise ValueError(f"the run lengths are not those of {width}x{height} pixels")
    return [counts.cumsum()]


@njit(cache=True, nogil=True)
def _crossings(points, height, width):
    """Where a polygon's boundary, points (2k) x, y, crosses the columns of pixels: the number of the first pixel below.

    As in maskApi.c of pycocotools: corners are rounded to a grid of fifths of a pixel and joined by steps of one fifth;
    a column is crossed in its middle, between its third and fourth fifth.
    """
    num = points.size // 2
    room = 0
    for i in range(num):
        room += int(abs(points[2 * i] - points[2 * ((i + 1) % num)])) + 2
    out = np.empty(room, np.int64)
    found = 0
    for i in range(num):
        j = (i + 1) % num
        x0, y0 = int(_FINE * points[2 * i] + 0.5), int(_FINE * points[2 * i + 1] + 0.5)
        x1, y1 = int(_FINE * points[2 * j] + 0.5), int(_FINE * points[2 * j + 1] + 0.5)
        flat = abs(x1 - x0) >= abs(y1 - y0)
        flip = x0 > x1 if flat else y0 > y1
        if flip:
            x0, y0, x1, y1 = x1, y1, x0, y0
        steps = x1 - x0 if flat else y1 - y0
        slope = (y1 - y0 if flat else x1 - x0) / max(steps, 1)
        before_x, before_y = 0, 0
        for step in range(steps + 1):
            t = steps - step if flip else step
            x = x0 + t if flat else int(x0 + slope * t + 0.5)
            y = int(y0 + slope * t + 0.5) if flat else y0 + t
            left = min(x, before_x)
            if step and x != before_x and left % _FINE == 2 and 0 <= left < width * _FINE:
                row = min(max((min(y, before_y) + 2) // _FINE, 0), height)
                out[found] = left // _FINE * height + row
                found += 1
            before_x, before_y = x, y
    return out[:found]


@njit(cache=True, nogil=True)
def _paint(columns, changes, value):
    for i in range(0, changes.size, 2):
        end = changes[i + 1] if i + 1 < changes.size else columns.size
        for pixel in range(changes[i], min(end, columns.size)):
            columns[pixel] = value
