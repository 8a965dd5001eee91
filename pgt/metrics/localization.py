"""Localisation by class activation maps: MaxBoxAcc of Choe et al., CVPR 2020, "Evaluating Weakly Supervised Object
Localization Methods Right"."""

from __future__ import annotations

import numpy as np
from numba import njit

LEVELS = 256


class BoxAccuracy:
    """Share of the images whose box is right, at every threshold of the maps.

    An image's map is stretched to 0..255 and cut at each level; the box around the largest connected part above it is
    right if it overlaps one of the image's boxes with at least this IoU. Parts are joined through the 8 neighbours, and
    the largest has the most pixels, of equals the one that begins first by rows (the published code takes the largest
    area of cv2.contourArea). A box's sides are counted with their last pixels, x1 - x0 + 1, as published.

    hits (255,) int64: images that are right at map > 0, map > 1, ..., map > 254.
    """

    def __init__(self, iou: float = 0.5):
        if not 0 < iou <= 1:
            raise ValueError(f"iou must lie in (0, 1], got {iou}.")
        self.iou, self.n = iou, 0
        self.hits = np.zeros(LEVELS - 1, np.int64)

    def step(self, cam: np.ndarray, boxes: np.ndarray) -> None:
        """Add an image: cam (H,W) uint8 or finite floats of any range; boxes (B,4) x0, y0, x1, y1 in its pixels."""
        boxes = np.asarray(boxes, np.float64)
        if boxes.ndim != 2 or boxes.shape[1:] != (4,) or not len(boxes):
            raise ValueError(f"boxes must be (B,4) with B >= 1, got {boxes.shape}.")
        found = largest_boxes(to_levels(cam))[1:].astype(np.float64)  # of map >= 1, ..., map >= 255
        h, w = cam.shape
        found[:, 2:] = np.minimum(found[:, 2:] + 1, (w - 1, h - 1))  # cv2.boundingRect's end, clipped, as published
        overlap = _iou(found[:, None], boxes).max(axis=1)
        self.hits += (overlap >= self.iou) & (found[:, 0] >= 0)
        self.n += 1

    def merge(self, other: BoxAccuracy) -> None:
        """Add the images of other. Raises ValueError if it asks for another IoU."""
        if self.iou != other.iou:
            raise ValueError(f"IoU {self.iou} and {other.iou} do not add up; give both the same.")
        self.n += other.n
        self.hits += other.hits

    def get_results(self) -> dict[str, float | np.ndarray]:
        """max_box_acc, the best of box_acc (255,); best_threshold, the lowest that reaches it. All in [0,1]."""
        if not self.n:
            raise ValueError("no image has been scored; call step(cam, boxes) before get_results().")
        accuracy = self.hits / self.n
        best = int(accuracy.argmax())
        return {"max_box_acc": float(accuracy[best]), "best_threshold": best / (LEVELS - 1), "box_acc": accuracy}


def to_levels(cam: np.ndarray) -> np.ndarray:
    """(H,W) -> uint8, stretched from minimum 0 to maximum 255 and rounded down; a constant map becomes 0."""
    if cam.ndim != 2 or not cam.size or not np.isfinite(cam).all():
        raise ValueError(f"a map must be (H,W), not empty and finite, got {cam.dtype} {cam.shape}.")
    cam = cam.astype(np.float64)
    low, high = cam.min(), cam.max()
    return (255 * ((cam - low) / (high - low))).astype(np.uint8) if high > low else np.zeros(cam.shape, np.uint8)


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(..., 4) boxes of inclusive ends -> (...)"""
    start, end = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    both = np.maximum(end - start + 1, 0).prod(axis=-1)
    either = sum((box[..., 2:] - box[..., :2] + 1).prod(axis=-1) for box in (a, b)) - both
    return both / either


@njit(cache=True, nogil=True)
def largest_boxes(levels: np.ndarray) -> np.ndarray:
    """levels (H,W) uint8 -> (256,4) int64: x0, y0, x1, y1 (last pixel included) of the largest 8-connected part of
    levels >= 0, 1, ..., 255; -1 where there is none.

    Pixels are added from the highest level down to a forest of parts (union-find), each with its size, box and first
    pixel: one look at every pixel serves all thresholds.
    """
    h, w = levels.shape
    start = np.zeros(LEVELS + 1, np.int64)  # counting sort, highest first
    for level in levels.flat:
        start[LEVELS - level] += 1
    start = np.cumsum(start)
    order = np.empty(h * w, np.int64)
    fill = start.copy()
    for i, level in enumerate(levels.flat):
        order[fill[LEVELS - 1 - level]] = i
        fill[LEVELS - 1 - level] += 1

    parent = np.full(h * w, -1, np.int64)
    size, first = np.ones(h * w, np.int64), np.arange(h * w)
    box = np.empty((h * w, 4), np.int64)
    out = np.full((LEVELS, 4), -1, np.int64)
    best = -1
    for k in range(LEVELS):
        for i in order[start[k] : start[k + 1]]:
            y, x = i // w, i % w
            root = i
            parent[i] = i
            box[i] = x, y, x, y
            for ny in range(max(y - 1, 0), min(y + 2, h)):
                for nx in range(max(x - 1, 0), min(x + 2, w)):
                    other = ny * w + nx
                    if parent[other] < 0:
                        continue
                    while parent[other] != other:
                        parent[other] = parent[parent[other]]
                        other = parent[other]
                    if other == root:
                        continue
                    if size[other] > size[root]:
                        root, other = other, root
                    parent[other] = root
                    size[root] += size[other]
                    first[root] = min(first[root], first[other])
                    for side in range(2):
                        box[root, side] = min(box[root, side], box[other, side])
                        box[root, side + 2] = max(box[root, side + 2], box[other, side + 2])
            if best < 0 or size[root] > size[best] or (size[root] == size[best] and first[root] < first[best]):
                best = root
        if best >= 0:
            out[LEVELS - 1 - k] = box[best]
    return out
