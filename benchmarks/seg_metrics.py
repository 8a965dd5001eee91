"""python -m benchmarks.seg_metrics --mask_dir VOC2012/SegmentationClass [--limit 20] [--repeat 5]

Run it from the root of the repository, with OMP_NUM_THREADS=1. Segmentation metrics
(pgt/metrics/segmentation.py) against the plain way, from arrays in memory, on one thread, in turn on each image: the
sweep of 60 background thresholds against the same at one threshold and against 60 arg-maxes; contour F against dilating
every class in turn. Predictions are the masks, moved by a few pixels; as CAMs, their classes blurred.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from skimage.morphology import disk

from benchmarks.peers import masks
from data.datasets import DATASETS
from misc.run.evaluation import exit_status
from pgt.metrics.segmentation import BOUND_TH, THRESHOLDS, Confusion, ContourF, ThresholdSweep

C = DATASETS["voc12"].num_classes


def moved(mask: np.ndarray) -> np.ndarray:
    matrix = np.float32([[1, 0.02, 4], [0.01, 1, -3]])
    return cv2.warpAffine(np.where(mask == 255, 0, mask), matrix, mask.shape[::-1], flags=cv2.INTER_NEAREST)


def cams(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    keys = np.array([k for k in np.unique(label) if k])
    blurred = [cv2.GaussianBlur((label == k).astype(np.float32), (0, 0), 15) for k in keys]
    return keys, np.array(blurred, np.float32).reshape(-1, *label.shape)


def sweep(keys, scores, gt, thresholds=THRESHOLDS) -> np.ndarray:
    counted = ThresholdSweep(C, thresholds=thresholds)
    counted.step(keys, scores, gt)
    return counted.get_results()["miou"]


def plain_sweep(keys, scores, gt, thresholds=THRESHOLDS) -> np.ndarray:
    """One arg-max and one confusion matrix per threshold."""
    out = []
    for threshold in thresholds:
        tensor = np.zeros((C, *gt.shape), np.float32)
        tensor[keys], tensor[0] = scores, threshold
        confusion = Confusion(C)
        confusion.step(tensor.argmax(0).astype(np.uint8), gt)
        out.append(confusion.get_results()["miou"])
    return np.array(out)


def contours(pred, gt, void="background") -> np.ndarray:
    metric = ContourF(C, void=void)
    metric.step(pred, gt)
    return metric.counts


def boundary(mask: np.ndarray) -> np.ndarray:
    edge = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask ^ edge[:-1, 1:]) | (mask ^ edge[1:, :-1]) | (mask ^ edge[1:, 1:])


def plain_contours(pred, gt) -> np.ndarray:
    """Every class dilated in turn, without the detours of the published script."""
    kernel = disk(np.ceil(BOUND_TH * np.linalg.norm(gt.shape))).astype(np.uint8)
    out = np.zeros((4, C), np.int64)
    for c in range(1, C):
        p, g = boundary(pred == c), boundary(gt == c)
        near_p, near_g = (cv2.dilate(m.astype(np.uint8), kernel) for m in (p, g))
        out[:, c] = (p * near_g).sum(), p.sum(), (g * near_p).sum(), g.sum()
    return out


def timed(work: Callable, *args) -> tuple[float, np.ndarray]:
    start = time.perf_counter()
    result = work(*args)
    return (time.perf_counter() - start) * 1e3, result


def compare(title: str, ways: dict[str, Callable], inputs: list[tuple], repeat: int, equal: bool = True) -> None:
    """Milliseconds per image of each way, run in turn, and medians of ratios to the first."""
    for work in ways.values():
        work(*inputs[0])  # compiled, or read from the cache
    rows = []
    for args in inputs:
        best = np.full(len(ways), np.inf)
        for _ in range(repeat):
            done = [timed(work, *args) for work in ways.values()]
            best = np.minimum(best, [ms for ms, _ in done])
            if equal and any((result != done[0][1]).any() for _, result in done):
                sys.exit(f"{title}: the values differ")
        rows.append(best)
    rows = np.array(rows)
    print(f"\n{title}: {len(inputs)} images{', equal values' if equal else ''}")
    for name, ms, ratio in zip(ways, np.median(rows, axis=0), np.median(rows / rows[:, :1], axis=0), strict=True):
        print(f"  {name:<44}{ms:9.2f} ms{ratio:9.2f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mask_dir", type=Path, required=True, help="VOC masks (palette PNG)")
    parser.add_argument("--limit", type=int, default=20, help="number of masks")
    parser.add_argument("--repeat", type=int, default=5, help="rounds; the least counts")
    args = parser.parse_args()
    cv2.setNumThreads(1)

    files = list(masks(args.mask_dir, "--mask_dir").values())[: args.limit]
    labels = [np.asarray(Image.open(path)) for path in files]
    pairs = [(moved(label), label) for label in labels]
    maps = [(*cams(pred), gt) for pred, gt in pairs]
    once = {"1 threshold": lambda *a: sweep(*a, thresholds=[0.25]), "60 thresholds": sweep}
    compare("sweep of CAMs, and the same at one threshold", once, maps, args.repeat, equal=False)
    plain_once = {"60 thresholds": sweep, "1 plain arg-max": lambda *a: plain_sweep(*a, thresholds=[0.25])}
    compare("sweep of CAMs, and one plain arg-max", plain_once, maps, args.repeat, equal=False)
    compare("sweep of CAMs", {"60 thresholds": sweep, "60 plain arg-maxes": plain_sweep}, maps[:4], 1)

    ours, plain = "all classes at once", {"every class dilated in turn": plain_contours}
    left_out = {ours: lambda *a: contours(*a, void="left_out"), **plain}
    tiles = np.kron(np.random.default_rng(0).integers(0, C, (8, 10)), np.ones((47, 50))).astype(np.uint8)
    compare("contour F, void as background", {ours: contours, **plain}, pairs, args.repeat)
    compare("contour F, void left out", left_out, pairs, args.repeat, equal=False)
    compare("contour F, every class in one image", {ours: contours, **plain}, [(moved(tiles), tiles)], 5 * args.repeat)


if __name__ == "__main__":
    sys.exit(exit_status(main))
