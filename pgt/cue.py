"""Saliency as the cue for background: CAMs tell the classes apart, saliency tells object from ground.

The idea is that of EPS (Lee et al., CVPR 2021) and DRS, whose saliency comes from networks trained with masks; here it
may come from one that was not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_EPS = 1e-6


def with_saliency(cam: np.ndarray, saliency: np.ndarray, share: float) -> np.ndarray:
    """CAMs (P,H,W) in [0,1] of an image's classes, its saliency (H,W) in [0,1] -> maps (P,H,W) in [0,1], the classes of
    each pixel in the order of their CAMs.

    share in [0,1]: the highest map of a pixel is share * saliency + (1 - share) * the highest CAM, so that what is not
    salient, but surely of a class, stays above the background. At 1 it is the saliency alone, divided as the CAMs are.
    Raises ValueError for other shapes.
    """
    if cam.ndim != 3 or cam.shape[1:] != saliency.shape:
        raise ValueError(f"cam {cam.shape} and saliency {saliency.shape}: give (P,H,W) and (H,W).")
    if share < 1 or not len(cam):
        return (1 - share) * cam + share * saliency
    return saliency * (cam + _EPS) / (cam.max(0) + _EPS)


def objects_with_saliency(prob: np.ndarray, saliency: np.ndarray, share: float) -> np.ndarray:
    """Probabilities (C,H,W) that sum to 1, background first, and saliency (H,W) in [0,1] -> probabilities (C,H,W)
    float32: an object's is share * saliency + (1 - share) * its own, and classes divide it as before. Raises ValueError
    for other shapes."""
    if prob.ndim != 3 or prob.shape[1:] != saliency.shape:
        raise ValueError(f"prob {prob.shape} and saliency {saliency.shape}: give (C,H,W) and (H,W).")
    known = prob[1:].sum(0)
    found = share * saliency + (1 - share) * known
    classes = prob[1:] * (found / np.maximum(known, _EPS))
    return np.concatenate([1 - classes.sum(0, keepdims=True), classes]).astype(np.float32)


def agreement(cam: np.ndarray, saliency: np.ndarray, thresholds: Sequence[float] | np.ndarray) -> np.ndarray:
    """(T,) in [0,1]: how far what the highest CAM has above each threshold is what is salient, as a soft intersection
    over union. cam (P,H,W), saliency (H,W), both in [0,1]. 1 where neither has anything."""
    highest = cam.max(0) if len(cam) else np.zeros_like(saliency)
    order = np.digitize(highest.ravel(), thresholds, right=True)  # above so many thresholds
    bins = len(thresholds) + 1
    count = np.bincount(order, minlength=bins)[::-1].cumsum()[::-1][1:]
    inside = np.bincount(order, saliency.ravel(), bins)[::-1].cumsum()[::-1][1:]
    union = count + float(saliency.sum(dtype=np.float64)) - inside
    return np.where(union > 0, inside / np.maximum(union, _EPS), 1.0)
