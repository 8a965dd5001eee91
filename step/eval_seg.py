"""Class activation maps and label maps against masks.

Reads   RESULT_DIR/cam/<name>.npz, sem_seg/<name>.png, seg/<name>.png; the masks of --eval_splits
Writes  RESULT_DIR/metrics.json: "cam", "sem_seg", "seg" -> split -> miou, contour_f and iou in percent, n; of maps also
        best_threshold, at which they are, and sweep, the mIoU at the thresholds 0, 0.01, ..., 0.59
Paper   SEAM (CVPR 2020), HFPL (WACV 2024); pgt/metrics/segmentation.py
"""

from pathlib import Path

import numpy as np

from data.datasets import DatasetSpec
from misc.errors import InputError
from misc.files.store import read_json, write_json
from step.eval_sem_seg import Protocol, Scores, score_folder, summary
from step.seg_set import masks_of, open_eval


def run_cam(args, failures) -> None:
    """Maps at all background thresholds in one pass; in another, contours at the best one."""

    def score(masks: dict[str, Path], spec: DatasetSpec) -> dict:
        folder = args.result_dir / "cam"
        given = _score(folder, masks, Protocol(spec, bg_score=args.cam_bg_score), args, failures)
        row = summary(given, Protocol(spec))
        best = row["threshold_sweep"]["best_threshold"]
        at_best = _score(folder, masks, Protocol(spec, bg_score=best), args, failures)
        return {
            **_row(row, _contour_f(at_best)),
            "best_threshold": best,
            f"contour_f_at_{args.cam_bg_score:g}": _percent(_contour_f(given)),
            "sweep": [_percent(value) for value in row["threshold_sweep"]["miou"]],
        }

    score_splits("cam", score, args)


def run_sem_seg(args, failures) -> None:
    score_labels("sem_seg", args, failures)


def run_seg(args, failures) -> None:
    score_labels("seg", args, failures)


def score_labels(kind: str, args, failures) -> None:
    """The label maps RESULT_DIR/<kind>/<name>.png."""

    def score(masks: dict[str, Path], spec: DatasetSpec) -> dict:
        scores = _score(args.result_dir / kind, masks, Protocol(spec), args, failures)
        return _row(summary(scores, Protocol(spec)), _contour_f(scores))

    score_splits(kind, score, args)


def score_splits(kind: str, score, args) -> None:
    """score(masks, spec) of each split -> its row in metrics.json. Of label maps, splits without any are left out."""
    results = {}
    for split, part in open_eval(args).items():
        masks = masks_of(part)
        if not masks or (
            kind != "cam" and not any((args.result_dir / kind / f"{name}.png").is_file() for name in masks)
        ):
            continue
        row = results[split] = score(masks, part.spec)
        numbers = {k: v for k, v in row.items() if isinstance(v, (int, float))}
        print(f"{kind} {split}: {', '.join(f'{k} {v:.4g}' for k, v in numbers.items())}", flush=True)
    if not results:
        raise InputError(f"{args.result_dir / kind}: nothing to score in it, or no masks; run what makes it")
    path = args.result_dir / "metrics.json"
    write_json(path, {**read_json(path), kind: results})


def _score(folder: Path, masks: dict[str, Path], protocol: Protocol, args, failures) -> Scores:
    scores = score_folder(folder, masks, protocol, failures, args.num_workers, args.quiet)
    if not scores.n:
        raise InputError(f"{folder}: no image of it could be scored; run what makes it")
    return scores


def _row(row: dict, contour_f: float) -> dict:
    return {
        "miou": _percent(row["miou"]),
        "contour_f": _percent(contour_f),
        "n": row["n"],
        "iou": {name: _percent(value) for name, value in row["iou"].items()},
    }


def _contour_f(scores: Scores) -> float:
    return scores.contours["left_out"].get_results()["mean_f"]


def _percent(value: float) -> float | None:
    """None for what is not defined, such as the IoU of a class that is nowhere."""
    return None if np.isnan(value) else round(100 * float(value), 3)
