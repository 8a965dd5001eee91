"""Segmentations and CAMs, of any project, against masks: mIoU, pixel accuracy, contour F, and the threshold sweep.

    python -m step.eval_sem_seg --pred_dir A --dataset voc12 --mask_dir SegmentationClass --list val.txt
    python -m step.eval_sem_seg --pred_dir A B --dataset voc12 --data_dir VOC2012 --split val --out metrics.json
    python -m step.eval_sem_seg --pred_dir A --dataset names.txt --mask_dir M       classes of your own, a name per line

Reads   PRED_DIR/<stem>.png|npz|npy for every mask (misc/files/predictions.py says what they may hold)
Writes  a table on the terminal; --out; --per_image
        as a pass of run_voc.py, which scores RESULT_DIR/sem_seg: see step/eval_seg.py
Paper   SEAM, CVPR 2020 (thresholds 0..0.59); HFPL, WACV 2024 (contour F); pgt/metrics/segmentation.py

CAMs are scored at every background threshold in one pass, and shown at the best; contour F is at --bg_score.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np

from data.datasets import DatasetSpec, get_dataset, read_names
from misc.errors import InputError
from misc.files.predictions import FIRST_LABEL
from misc.report.kinds import SEM_SEG
from misc.report.seg_scores import IMAGE_COLUMNS, Scores, score_folder, score_splits
from misc.run.evaluation import Command, Scored, Strict, each_folder, main_of, only, table
from misc.run.failures import Failures
from misc.run.flags import Args, Table, flag, stage
from step.sets import list_images, open_eval, shard_of

COLUMNS = ("n", "miou", "miou_absent_0", "pixel_accuracy", "best_threshold", "contour_f", "contour_f_published")


def run(args: Args, failures: Failures) -> None:
    score_splits(SEM_SEG, open_eval(args), partial(shard_of, args), args, failures)


def score_folders(args: Args, failures: Strict) -> None:
    """args.pred_dir against the masks, see parse; prints tables, writes args.out and args.per_image."""
    spec = get_dataset(args.dataset)
    masks = find_masks(args, spec)

    def score(folder: Path) -> tuple[dict, list[tuple]]:
        if not folder.is_dir():
            raise InputError(f"--pred_dir {folder}: no such folder")
        scores = score_folder(folder, masks, spec, args, failures, keys=args.keys, bg_score=args.bg_score)
        return summary(scores, args.bg_score), scores.rows

    results = each_folder(args, score, IMAGE_COLUMNS)
    print(table({name: _flat(row) for name, row in results.items()}, COLUMNS))
    print(class_table(results, spec))


def find_masks(args: Args, spec: DatasetSpec) -> dict[str, Path]:
    """stem -> mask: those of --data_dir's split, or of --mask_dir, where --list may name some of them."""
    mask_dir, names = args.mask_dir, args.list
    if args.data_dir:
        if not spec.mask_dir or args.split not in spec.lists:
            raise InputError(f"--split {args.split}: not known of {spec.name}; give --mask_dir and --list")
        mask_dir, names = mask_dir or args.data_dir / spec.mask_dir, names or args.data_dir / spec.lists[args.split]
    if mask_dir is None:
        raise InputError("no masks; give --mask_dir, or --data_dir and --split")
    masks = list_images(mask_dir, "--mask_dir", "masks")
    return only(masks, read_names(names, known=masks), names, f"mask in {mask_dir}") if names else masks


def summary(scores: Scores, bg_score: float) -> dict:
    """All that --out tells of a folder."""
    results = scores.get_results()
    sweep = {"threshold_sweep": results.pop("threshold_sweep")} if scores.num_cams else {}
    contour = {form: _contour_row(counts.get_results(), scores.names) for form, counts in scores.contours.items()}
    if scores.num_cams:
        contour["bg_score"] = bg_score
    absent = [name for name, value in results["iou"].items() if np.isnan(value)]
    return {**results, "absent": absent, "contour": contour, **sweep}


def _contour_row(results: dict, names: tuple[str, ...]) -> dict:
    f = dict(zip(names[1:], results["f"][1:].tolist(), strict=True))
    return {"mean_f": results["mean_f"], "mean_f_absent_1": results["mean_f_absent_1"], "f": f}


def _flat(row: dict) -> dict:
    """What the table shows. contour_f_published: void as background, absent classes as 1."""
    left_out, published = (row["contour"][form] for form in ("void_left_out", "void_as_background"))
    contours = {"contour_f": left_out["mean_f"], "contour_f_published": published["mean_f_absent_1"]}
    return {**row.get("threshold_sweep", {}), **row, **contours}


def class_table(results: dict[str, dict], spec: DatasetSpec) -> str:
    """IoU per class, a column per folder; absent: neither in masks nor predictions."""
    width = max(len(name) for name in spec.names) + 2
    lines = [f"{'IoU':{width}}" + "  ".join(results)]
    for name in spec.names:
        cells = ((row["iou"][name], max(6, len(folder))) for folder, row in results.items())
        text = "  ".join(f"{'absent' if np.isnan(v) else f'{v:.3f}':>{w}}" for v, w in cells)
        lines.append(f"{name:{width}}{text}")
    return "\n".join(lines)


@stage("which labels")
class Labels:
    dataset: str | None = flag(None, "voc12, coco14, or a file of class names (.json, .txt)", often=True, required=True)
    data_dir: Path | None = flag(None, "root of the data set, instead of --mask_dir and --list", often=True, reads=True)
    split: str = flag("val", "of --data_dir", often=True)
    keys: str = flag(
        "foreground",
        "what key 0 of CAM files is: the first foreground class, or (label) the background, as in CRF maps",
        choices=tuple(FIRST_LABEL),
    )
    bg_score: float = flag(0.25, "background's score in CAMs, for contour F", at_least=0, at_most=1)


main = main_of(Table(__doc__, (Scored(), Labels(), Command())), score_folders)

if __name__ == "__main__":
    sys.exit(main())
