"""python -m benchmarks.metrics [--mask_dir ECSSD/masks] [--pred_dir result/cam] [--limit N] [--repeat 3]

Run it from the root of the repository, with OMP_NUM_THREADS=1. Saliency metrics (pgt/metrics/saliency.py) against
PySODMetrics (benchmarks/requirements.txt), on predictions and masks of one stem; without flags what run_sample.py made
of the sample photographs. Each image is scored by both in turn, on one thread, from arrays in memory; the least of
--repeat rounds counts.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import cv2
import numpy as np

from benchmarks.peers import maps, masks, peer, same_names
from misc.files.images import read_gray
from misc.run.evaluation import exit_status
from pgt.metrics.saliency import SaliencyMetrics


class Peer:
    """PySODMetrics' five classes behind our interface."""

    def __init__(self) -> None:
        sod = peer("py_sod_metrics", "pysodmetrics")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Fmeasure announces its successor, which computes the same, not faster
            self.parts = sod.MAE(), sod.Fmeasure(), sod.WeightedFmeasure(), sod.Smeasure(), sod.Emeasure()

    def step(self, pred: np.ndarray, gt: np.ndarray) -> None:
        for part in self.parts:
            part.step(pred, gt)

    def get_results(self) -> dict[str, float]:
        mae, f, weighted, s, e = (part.get_results() for part in self.parts)
        curves = {"f": f["fm"]["curve"], "e": e["em"]["curve"]}
        return {
            "mae": mae["mae"],
            "adp_f": f["fm"]["adp"],
            "weighted_f": weighted["wfm"],
            "s_measure": s["sm"],
            "adp_e": e["em"]["adp"],
            **{f"mean_{key}": curve.mean() for key, curve in curves.items()},
            **{f"max_{key}": curve.max() for key, curve in curves.items()},
        }


def read_pairs(args: argparse.Namespace) -> list[tuple[np.ndarray, np.ndarray]]:
    """Grey uint8 prediction and mask of each mask; a prediction of another size is resized."""
    files = dict(list(masks(args.mask_dir, "--mask_dir").items())[: args.limit])
    preds = maps(args.pred_dir, "--pred_dir")
    same_names(files, preds, f"--pred_dir {args.pred_dir}")
    pairs = [(read_gray(preds[stem]), read_gray(path)) for stem, path in files.items()]
    return [(cv2.resize(pred, mask.shape[::-1]), mask) for pred, mask in pairs]


def measure(pairs: list[tuple[np.ndarray, np.ndarray]], repeat: int) -> np.ndarray:
    """Seconds (images, 2) of one step of ours and of the peer's."""
    seconds = np.full((len(pairs), 2), np.inf)
    for _ in range(repeat):
        metrics = SaliencyMetrics(), Peer()
        for i, pair in enumerate(pairs):
            for j, metric in enumerate(metrics):
                start = time.perf_counter()
                metric.step(*pair)
                seconds[i, j] = min(seconds[i, j], time.perf_counter() - start)
    ours, peer = (metric.get_results() for metric in metrics)
    print(f"{'metric':<12}{'ours':>12}{'peer':>12}{'difference':>14}")
    for key, value in peer.items():
        print(f"{key:<12}{ours[key]:12.6f}{value:12.6f}{abs(ours[key] - value):14.1e}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mask_dir", type=Path, help="folder of masks; none: those of the sample")
    parser.add_argument("--pred_dir", type=Path, default=Path("result/cam"), help="predictions with the same stems")
    parser.add_argument("--limit", type=int, help="number of images (default: all)")
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    args = parser.parse_args()
    cv2.setNumThreads(1)

    Peer()
    pairs = read_pairs(args)
    start = time.perf_counter()
    SaliencyMetrics().step(*pairs[0])
    print(f"first call {time.perf_counter() - start:.2f} s (compiles once per machine, then reads the cache)\n")

    seconds = measure(pairs, args.repeat)
    ours, peer = np.median(seconds, axis=0) * 1e3
    low, ratio, high = np.percentile(seconds[:, 1] / seconds[:, 0], [5, 50, 95])
    print(f"\n{len(pairs)} images, median ms per image: ours {ours:.2f}, peer {peer:.2f}")
    print(f"times as fast, median (5 %, 95 %): {ratio:.1f} ({low:.1f}, {high:.1f})")


if __name__ == "__main__":
    sys.exit(exit_status(main))
