"""Does doubtful.csv find the worst labels?

    python run_sample.py ../shared/data/ecssd --result_dir result/ecssd
    python -m benchmarks.doubtful result/ecssd ../shared/data/ecssd/masks

Prints, for each kind of label, the area under the ROC curve of the doubt as a sign of the worst tenth by IoU with the
masks at a threshold of one half; for both halves of the images, too, and of each ingredient alone. The masks serve
nothing else.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from misc.files.images import read_gray, read_mask

KINDS = ("cam_pamr", "cam_slic", "sal")


def iou(label: Path, mask: Path) -> float:
    a, b = read_gray(label) >= 128, read_mask(mask)
    return float((a & b).sum() / max(1, (a | b).sum()))


def auc(values: np.ndarray, worth: np.ndarray) -> float:
    """The chance that one of the worst tenth has a higher value than one of the others; ties count half."""
    worst = np.argsort(np.argsort(worth, kind="stable"), kind="stable") < len(worth) // 10
    above = values[worst][:, None] - values[~worst]
    return float((above > 0).mean() + (above == 0).mean() / 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result_dir", type=Path)
    parser.add_argument("mask_dir", type=Path)
    args = parser.parse_args()
    report(args.result_dir, args.mask_dir)


def report(result_dir: Path, mask_dir: Path) -> None:
    with (result_dir / "doubtful.csv").open(newline="", encoding="utf-8") as f:
        rows = sorted(csv.DictReader(f), key=lambda row: row["name"])
    columns = {key: np.array([float(row[key] or 0) for row in rows]) for key in rows[0] if key != "name"}
    halves = [np.arange(len(rows)) % 2 == part for part in (0, 1)]
    for kind in KINDS:
        names = [row["name"] for row in rows]
        worth = np.array([iou(result_dir / kind / f"{n}.png", mask_dir / f"{n}.png") for n in names])
        parts = ", ".join(f"{auc(columns['doubt'][half], worth[half]):.3f}" for half in halves)
        alone = ", ".join(f"{key} {auc(values, worth):.3f}" for key, values in columns.items())
        print(f"{kind}: {len(names)} images, mean IoU {worth.mean():.3f}; {alone}; doubt in the halves {parts}")


if __name__ == "__main__":
    main()
