"""Maps and labels against masks; alone, any folders of saliency maps, from any project, side by side.

    python -m step.eval --pred_dir A --mask_dir M                      A's maps against the masks M
    python -m step.eval --pred_dir A B --mask_dir M --out scores.json  two folders side by side; curves in the file
    python -m step.eval --pred_dir A --boxes boxes.csv                 MaxBoxAcc of localisation maps

Reads   in a run: RESULT_DIR/<kind> of misc/report/kinds.py, where they are; --mask_dir, or the masks of the data set
Writes  in a run: RESULT_DIR/metrics.json; RESULT_DIR/scores/<kind>.csv and <kind>_curves.csv; a table on the terminal
Paper   pgt/metrics/saliency.py, pgt/metrics/localization.py
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from data.datasets import read_names
from misc.errors import InputError
from misc.files.boxes import ImageBoxes, read_boxes
from misc.files.held import Kept
from misc.files.images import read_gray
from misc.files.listing import matched
from misc.files.store import read_json, write_json
from misc.report.kinds import SALIENCY, folders, is_outdated
from misc.report.saliency_scores import COLUMNS, IMAGE_COLUMNS, score_maps
from misc.report.score_files import write_curves, write_scores
from misc.run.evaluation import (
    Command,
    Files,
    Scored,
    Strict,
    compare,
    each_folder,
    main_of,
    nothing_to_compare,
    only,
    table,
    to_json,
)
from misc.run.failures import Failures
from misc.run.flags import Args, Table, flag, stage
from pgt.metrics.localization import BoxAccuracy
from pgt.metrics.saliency import CURVES
from step.sets import list_images, open_images


def run(args: Args, failures: Failures) -> None:
    folder = open_images(args)
    if folder.mask_dir is None:
        nothing_to_compare("eval", "no masks (--mask_dir)", args)
        return
    labelled = {stem: path for stem, path in folder.images.items() if path not in failures}
    for stem, path in labelled.items():
        if stem not in folder.masks:
            failures.add("eval", path, f"no mask of its name in {folder.mask_dir}")
    score_kinds({stem: folder.masks[stem] for stem in labelled if stem in folder.masks}, args, failures)


def score_kinds(masks: Files, args: Args, failures: Failures) -> None:
    """A table on the terminal, metrics.json, and what misc/report/score_files.py says, of every kind that is there."""
    results, read = {}, Kept()  # a mask is read once for all kinds
    for kind, folder in folders(SALIENCY, args).items():
        if is_outdated(kind, masks, args):
            print(f"eval: {kind.key} is of other maps than those in cam, or other images, and left out: make it again")
            continue
        preds = {stem: folder / f"{stem}.png" for stem in masks}
        row, rows = score_maps(folder, masks, preds, args, failures, read, fit=kind.style == "heat")
        results[kind.key] = to_json({name: row[name] for name in COLUMNS if name in row})
        write_scores(args.result_dir, kind.key, ("image", "digest", *IMAGE_COLUMNS), rows)
        write_curves(args.result_dir, kind.key, row)
    print(table(results, COLUMNS))
    path = args.result_dir / "metrics.json"
    others = {key: row for key, row in read_json(path).items() if key not in {kind.key for kind in SALIENCY}}
    write_json(path, {**others, **results})


def score_folders(args: Args, failures: Strict) -> None:
    """args.pred_dir against args.mask_dir, args.boxes or both; prints a table, writes args.out and args.per_image."""
    if not (args.mask_dir or args.boxes):
        raise InputError("nothing to compare with; give --mask_dir, --boxes or both")
    masks = list_images(args.mask_dir, "--mask_dir", "masks") if args.mask_dir else {}
    boxes = read_boxes(args.boxes) if args.boxes else {}
    if args.list:
        names = read_names(args.list, known=masks or boxes)
        masks, boxes = masks and only(masks, names, "--list", "mask"), boxes and only(boxes, names, "--list", "box")

    def score(folder: Path) -> tuple[dict, list[tuple]]:
        preds = list_images(folder, "--pred_dir", "predictions")
        row, rows = score_masks(folder, masks, matched(masks, preds), args, failures) if masks else ({}, [])
        return row | (score_boxes(folder, boxes, matched(boxes, preds), args, failures) if boxes else {}), rows

    print(table(each_folder(args, score, IMAGE_COLUMNS), (*COLUMNS, "max_box_acc", "box_threshold")))


def score_masks(folder: Path, masks: Files, preds: Files, args: Args, failures: Strict) -> tuple[dict, list[tuple]]:
    results, rows = score_maps(folder, masks, preds, args, failures)
    if not rows:
        raise InputError(f"--pred_dir {folder}: no image of it could be scored")
    curves = {name: results.pop(name) for name in CURVES}
    return {**results, "curves_at_255_to_0": curves}, rows


def score_boxes(folder: Path, boxes: Mapping[str, ImageBoxes], preds: Files, args: Args, failures: Strict) -> dict:
    accuracy = BoxAccuracy()
    for one in compare("eval", folder, boxes, score_box, args, failures, preds):
        accuracy.merge(one)
    if not accuracy.n:
        raise InputError(f"--pred_dir {folder}: no map of it has a box")
    results = accuracy.get_results()
    best = {"max_box_acc": results["max_box_acc"], "box_threshold": results["best_threshold"]}
    return {"n": accuracy.n, **best, "box_acc_at_0_to_254": results["box_acc"]}


def score_box(_: str, path: Path, boxes: ImageBoxes) -> BoxAccuracy:
    accuracy = BoxAccuracy()
    cam = read_gray(path)
    accuracy.step(cam, boxes.at(cam.shape))
    return accuracy


@stage("boxes")
class Boxes:
    boxes: Path | None = flag(None, "csv of boxes (file, x0, y0, x1, y1[, orig_w, orig_h])", often=True)


main = main_of(Table(__doc__, (Scored(), Boxes(), Command())), score_folders)

if __name__ == "__main__":
    sys.exit(main())
