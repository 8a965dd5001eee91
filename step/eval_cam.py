"""Class activation maps against masks, at all background thresholds.

Reads   RESULT_DIR/cam/<name>.npz; the masks of --eval_splits
Writes  RESULT_DIR/metrics.json: "cam" -> split -> miou, contour_f and iou at the best threshold, best_threshold, sweep
        (the mIoU at 0, 0.01, ..., 0.59) and contour_f_at_<cam_bg_score>, all from 0 to 1, and n;
        RESULT_DIR/scores/cam.csv, a row per image, at the best threshold
Paper   SEAM (CVPR 2020), HFPL (WACV 2024); pgt/metrics/segmentation.py
"""

from pathlib import Path

from data.datasets import DatasetSpec
from misc.files.held import Kept
from misc.report.kinds import SEG_CAM
from misc.report.seg_scores import Scores, score_folder, write_splits
from misc.run.evaluation import Files
from misc.run.failures import Failures
from misc.run.flags import Args
from step.sets import open_eval


def run(args: Args, failures: Failures) -> None:
    parts, folder = open_eval(args), SEG_CAM.folder(args)
    scored = {split: score(folder, p.masks, p.spec, args, failures) for split, p in parts.items() if p.masks}
    write_splits(SEG_CAM, parts, scored, args)


def score(folder: Path, masks: Files, spec: DatasetSpec, args: Args, failures: Failures) -> tuple[Scores, dict]:
    """All thresholds at once; then, from the files in memory, contours at the best one."""
    read = Kept()
    given = score_folder(folder, masks, spec, args, failures, bg_score=args.cam_bg_score, read=read)
    sweep = given.sweep.get_results()
    best, usable = sweep["best_threshold"], {name: masks[name] for name, *_ in given.rows}
    at_best = score_folder(folder, usable, spec, args, failures, bg_score=best, read=read)
    more = {"best_threshold": best, f"contour_f_at_{args.cam_bg_score:g}": given.contour_f, "sweep": sweep["miou"]}
    return at_best, more
