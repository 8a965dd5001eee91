"""Label maps (H,W) as outlines that are filled one after the other: exact to the pixel, or simplified so that a person
can correct them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from misc.report.kinds import Simplify

Ring = np.ndarray  # (N,2) int32, x and y of the centres of the pixels on the border
Rings = list[tuple[int, Ring]]  # label and outline, in painting order
_ROUNDS, _AREA, _DISTANCE = 10, 0.5, 0.8  # of simplified: what a round leaves of smallest and of tolerance


def painted_outlines(label: np.ndarray) -> Rings:
    """(label, outline of pixel centres), to be filled with their borders in this order: that gives the label map.

    Parts are joined through the 4 neighbours, so one that lies inside another is smaller than what the other's outline
    encloses, and comes after it. Background comes up where it fills holes.
    """
    found = []
    for value in np.unique(label):
        num, parts, stats, _ = cv2.connectedComponentsWithStats((label == value).astype(np.uint8), connectivity=4)
        for k in range(1, num):
            x, y, w, h = stats[k, :4].tolist()
            at_edge = x == 0 or y == 0 or x + w == label.shape[1] or y + h == label.shape[0]
            if value == 0 and at_edge:
                continue  # nothing encloses it
            part = (parts[y : y + h, x : x + w] == k).astype(np.uint8)
            outlines, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
            ring = outlines[0][:, 0] + (x, y)
            found.append((-pixels_within(ring), int(value), ring.tolist()))
    return [(value, np.array(ring, np.int32)) for _, value, ring in sorted(found)]


def pixels_within(ring: Ring) -> int:
    """The pixels that an outline and its border cover, by Pick's theorem."""
    steps = np.abs(np.diff(ring, axis=0, append=ring[:1])).max(axis=1).sum()
    return round(cv2.contourArea(ring.astype(np.float32)) + float(steps) / 2 + 1)


def painted(rings: Rings, shape: tuple[int, ...]) -> np.ndarray:
    """Outlines filled with their borders, in order -> (H,W) uint16."""
    picture = np.zeros(shape, np.uint16)
    for value, ring in rings:
        cv2.fillPoly(picture, [ring], value)
    return picture


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """IoU of what two label maps (H,W) hold besides background, where another label counts as none; 1 where both hold
    nothing."""
    union = int(((a > 0) | (b > 0)).sum())
    return int(((a == b) & (a > 0)).sum()) / union if union else 1.0


def simplified(rings: Rings, label: np.ndarray, how: Simplify | None) -> Rings:
    """Outlines that give label (H,W) when they are painted -> fewer, with fewer points; None leaves them as they are.

    Parts and holes below how.smallest go, edges stay within how.tolerance (Douglas & Peucker, 1973). Where the outcome
    agrees with the label by less than how.agreement, both are lowered, in the end to nothing.
    """
    sizes = [pixels_within(ring) for _, ring in rings] if how else []
    for k in range(_ROUNDS if how else 0):
        smallest = how.smallest * label.size * _AREA**k
        tolerance = how.tolerance * max(label.shape) * _DISTANCE**k
        kept = (one for one, size in zip(rings, sizes, strict=True) if size >= smallest)
        coarse = [(value, cv2.approxPolyDP(ring[:, None], tolerance, True)[:, 0]) for value, ring in kept]
        coarse = [(value, ring) for value, ring in coarse if len(ring) >= 3]
        if agreement(painted(coarse, label.shape), label) >= how.agreement:
            return coarse
    return rings


def outlines(label: np.ndarray, how: Simplify | None = None) -> Rings:
    """label (H,W) -> painted_outlines of it, simplified."""
    return simplified(painted_outlines(label), label, how)


def polygons(mask: np.ndarray, how: Simplify | None = None) -> Sequence[list[list[float]]]:
    """Outlines [x, y] of the parts of mask (H,W) bool, on the edges between pixels (pixel 0 covers 0..1) but for a
    quarter of a pixel, so that thin parts have an area. Holes are filled: COCO's polygons have none."""
    twice = np.kron(mask.astype(np.uint8), np.ones((2, 2), np.uint8))
    found, _ = cv2.findContours(twice, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    rings = [(1, ring[:, 0]) for ring in found]
    return [((ring + 0.5) / 2).tolist() for _, ring in simplified(rings, painted(rings, twice.shape), how)]
