"""Maps and labels against masks; alone, any folders of saliency maps, from any project, side by side.

    python -m step.eval --pred_dir A --mask_dir M                      A's maps against the masks M
    python -m step.eval --pred_dir A B --mask_dir M --out scores.json  two folders side by side; curves in the file
    python -m step.eval --pred_dir A --boxes boxes.csv                 MaxBoxAcc of localisation maps

Reads   in a run: RESULT_DIR/<kind> of misc/report/kinds.py, where they are; --mask_dir, or the masks of the data set
Writes  in a run: RESULT_DIR/metrics.json; RESULT_DIR/scores/<kind>.csv and <kind>_curves.csv; a table on the terminal
Paper   pgt/metrics/saliency.py, pgt/metrics/localization.py
"""

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from data.datasets import read_names
from misc.errors import InputError
from misc.files.boxes import ImageBoxes, read_boxes
from misc.files.held import Kept
from misc.files.images import read_gray
from misc.files.listing import matched
from misc.files.store import read_json, write_json
from misc.report.kinds import SALIENCY, count_labels, folders
from misc.report.saliency_scores import COLUMNS, IMAGE_COLUMNS, Scores, score_maps
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
from misc.run.parts import Found, Parts, in_parts
from pgt.metrics.localization import BoxAccuracy
from pgt.metrics.saliency import CURVES
from step.sets import list_images, mask_dir_of, open_images


def run(args: Args, failures: Failures) -> None:
    if args.at_shard is None and mask_dir_of(args) is None:
        nothing_to_compare("eval", "no masks (--mask_dir)", args)
        return
    images, files, find = partial(usable, args, failures), partial(files_of, args), partial(score_kinds, args, failures)
    if parts := in_parts("eval", images, files, find, args, failures):
        tell(parts, args, failures)


def usable(args: Args, failures: Failures) -> Files:
    """The images that have not failed, where the set has masks."""
    folder = open_images(args)
    return {stem: path for stem, path in folder.images.items() if path not in failures and folder.mask_dir}


def files_of(args: Args, images: Files) -> Iterator[Path]:
    """All that is read of them."""
    masks = open_images(args).masks
    yield from (masks[stem] for stem in images if stem in masks)
    yield from (folder / f"{stem}.png" for folder in folders(SALIENCY, args).values() for stem in images)


def score_kinds(args: Args, failures: Failures, images: Files) -> Found:
    """Key of each kind that is there -> of how many masks it has how many labels, how many of them are older than their
    maps, and Scores, which are empty where it has no label, or an old one."""
    found, read, folder = {}, Kept(), open_images(args)  # a mask is read once for all kinds
    for stem in (stem for stem in images if stem not in folder.masks):
        failures.add("eval", images[stem], f"no mask of its name in {folder.mask_dir}")
    masks = {stem: folder.masks[stem] for stem in images if stem in folder.masks}
    for kind, labels in folders(SALIENCY, args).items():
        there, old = count_labels(kind, masks, args)
        preds, scores = {stem: labels / f"{stem}.png" for stem in masks}, Scores()
        if there and not old:
            scores = score_maps(labels, masks, preds, args, failures, read, fit=kind.style == "heat")
        found[kind.key] = {"masks": len(masks), "there": there, "old": old, **scores.state()}
    return found


def tell(parts: Parts, args: Args, failures: Failures) -> None:
    """A table on the terminal, metrics.json, and what misc/report/score_files.py says, of every kind that is there."""
    results = {}
    for kind, folder in folders(SALIENCY, args).items():
        there = old = bare = 0
        total = Scores()
        for own in (part[kind.key] for part in parts() if kind.key in part):
            there, old = there + own["there"], old + own["old"]
            bare += 0 if own["there"] else own["masks"]
            total.add_sums(own)
        if old or not there:
            print(f"eval: {kind.key} is of other maps than those in cam, or other images, and left out: make it again")
            continue
        if bare:
            failures.add("eval", folder, f"shards of {bare} images have no label there")
        row = total.results(folder)
        results[kind.key] = to_json({name: row[name] for name in COLUMNS if name in row})
        rows = (image for part in parts() if kind.key in part for image in part[kind.key]["rows"])
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
    scores = score_maps(folder, masks, preds, args, failures)
    if not scores.rows:
        raise InputError(f"--pred_dir {folder}: no image of it could be scored")
    results = scores.results(folder)
    curves = {name: results.pop(name) for name in CURVES}
    return {**results, "curves_at_255_to_0": curves}, scores.rows


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
