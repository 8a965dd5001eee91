"""OMP_NUM_THREADS=1 python benchmarks/metrics.py --mask_dir ECSSD/masks --pred_dir result/cam

Saliency metrics against PySODMetrics (pip install pysodmetrics), on predictions and masks paired by file
stem. Each image is scored by both in turn, on one thread, from arrays in memory; the least of --repeat
rounds counts. Without saliency maps at hand, the photographs, read as grey, can serve as predictions.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from pgt.metrics.saliency import SaliencyMetrics


class Peer:
    """PySODMetrics' five classes behind our interface."""

    def __init__(self):
        try:
            import py_sod_metrics as peer
        except ImportError as error:
            sys.exit(f"PySODMetrics is needed for comparison: pip install pysodmetrics ({error})")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Fmeasure announces its successor, which computes the same, not faster
            self.parts = (
                peer.MAE(),
                peer.Fmeasure(),
                peer.WeightedFmeasure(),
                peer.Smeasure(),
                peer.Emeasure(),
            )

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


def read_pairs(pred_dir: Path, mask_dir: Path, limit: int | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Grey uint8 prediction and mask per file of mask_dir; a prediction of another size is resized."""
    preds = {path.stem: path for path in sorted(pred_dir.iterdir())}
    pairs = []
    for path in sorted(mask_dir.iterdir())[:limit]:
        if path.stem not in preds:
            sys.exit(f"{pred_dir} has no prediction for {path.name}")
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        pred = cv2.imread(str(preds[path.stem]), cv2.IMREAD_GRAYSCALE)
        pairs.append((cv2.resize(pred, mask.shape[::-1]), mask))
    return pairs


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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mask_dir", type=Path, required=True, help="folder of masks")
    parser.add_argument("--pred_dir", type=Path, required=True, help="folder of predictions with the same stems")
    parser.add_argument("--limit", type=int, help="number of images (default: all)")
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    args = parser.parse_args()
    cv2.setNumThreads(1)

    pairs = read_pairs(args.pred_dir, args.mask_dir, args.limit)
    start = time.perf_counter()
    SaliencyMetrics().step(*pairs[0])
    print(f"first call {time.perf_counter() - start:.2f} s (compiles once per machine, then reads the cache)\n")

    seconds = measure(pairs, args.repeat)
    ours, peer = np.median(seconds, axis=0) * 1e3
    low, ratio, high = np.percentile(seconds[:, 1] / seconds[:, 0], [5, 50, 95])
    print(f"\n{len(pairs)} images, median ms per image: ours {ours:.2f}, peer {peer:.2f}")
    print(f"times as fast, median (5 %, 95 %): {ratio:.1f} ({low:.1f}, {high:.1f})")


if __name__ == "__main__":
    main()
