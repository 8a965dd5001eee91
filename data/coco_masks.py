"""Label maps from COCO's annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pycocotools import mask as coco

from misc.files.rle import rle_decode

_FARTHEST = 1e5  # pixels from the origin: what lies beyond is no coordinate


def draw_label(
    annotations: Sequence[Mapping], shape: tuple[int, int], labels: Mapping[int, int], ignore: int = 255
) -> np.ndarray:
    """-> (H,W) uint8: 0, and each annotation's labels[category_id], or ignore where it is a crowd, in their order: what
    comes later covers what was there. Raises OSError, with the reason, for an annotation that is damaged.
    """
    label = np.zeros(shape, np.uint8, order="F")  # as COCO counts pixels
    for annotation in annotations:
        value = ignore if annotation.get("iscrowd") else labels[annotation["category_id"]]
        try:
            np.copyto(label, value, where=_mask(annotation["segmentation"], shape))
        except (KeyError, ValueError, TypeError, IndexError, OverflowError) as e:
            reason = f"{type(e).__name__}: {e}"
            raise OSError(f"annotation {annotation.get('id')} has no usable segmentation ({reason})") from e
    return np.ascontiguousarray(label)


def _mask(segmentation: list | Mapping, shape: tuple[int, int]) -> np.ndarray:
    """-> (H,W) bool of the polygons [x, y, x, y, ...] together, or of a run-length code."""
    if not isinstance(segmentation, list):
        return rle_decode(segmentation, shape)
    outlines = [np.asarray(points, np.float64) for points in segmentation]
    if any(points.ndim != 1 or points.size % 2 or not (np.abs(points) < _FARTHEST).all() for points in outlines):
        raise ValueError("a polygon is no row of x, y in pixels")
    outlines = [points for points in outlines if points.size >= 6]  # fewer enclose nothing, four would be a box
    if not outlines:
        return np.zeros(shape, bool)
    return rle_decode(coco.merge(coco.frPyObjects(outlines, *shape)), shape)
