"""Maps and labels against masks; alone, any folders of saliency maps, from any project, side by side.

    python -m step.eval --pred_dir A --mask_dir M                      A's maps against the masks M
    python -m step.eval --pred_dir A B --mask_dir M --out scores.json  two folders side by side; curves in the file
    python -m step.eval --pred_dir A --boxes boxes.csv                 MaxBoxAcc of localisation maps

Reads   in a run: RESULT_DIR/cam, cam_pamr, cam_slic, whichever are there; --mask_dir, or the masks of the data set
Writes  in a run: RESULT_DIR/metrics.json; RESULT_DIR/scores/<kind>.csv and <kind>_curves.csv; a table on the terminal
Paper   pgt/metrics/saliency.py, pgt/metrics/localization.py
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from data.datasets import read_names
from data.saliency import open_folder
from misc.errors import InputError
from misc.files.boxes import ImageBoxes, read_boxes
from misc.files.images import find_images, read_gray
from misc.files.store import read_json, write_json
from misc.report.kinds import SALIENCY, folders, is_outdated
from misc.report.saliency_scores import COLUMNS, IMAGE_COLUMNS, Item, Tally, score_maps
from misc.report.score_files import write_curves, write_scores
from misc.run.evaluation import Command, Scored, Strict, each_folder, main_of, present, table, to_json
from misc.run.failures import Failures
from misc.run.flags import Args, Table, flag, stage
from misc.run.parallel import num_workers_for, parallel_map, progress
from pgt.metrics.localization import BoxAccuracy
from pgt.metrics.saliency import CURVES


def run(args: Args, failures: Failures) -> None:
    folder = open_folder(args.sal_dataset_dir, args.limit)
    mask_dir = args.mask_dir or folder.mask_dir
    if mask_dir is None:
        print("eval: no masks (--mask_dir), so there is nothing to compare with")
        return
    masks = find_images(mask_dir, "--mask_dir")
    labelled = [stem for stem, path in folder.images.items() if path not in failures]
    for stem in labelled:
        if stem not in masks:
            failures.add("eval", folder.images[stem], f"no mask of its name in {mask_dir}")
    stems = [stem for stem in labelled if stem in masks]
    dirs = {}
    for kind, path in folders(SALIENCY, args).items():
        if is_outdated(kind, stems, args):
            print(f"eval: {kind.key} is of other maps than those in cam and is left out: make it again")
        else:
            dirs[kind.key] = path
    items = [Item(stem, masks[stem], {key: path / f"{stem}.png" for key, path in dirs.items()}) for stem in stems]
    write_tallies(score_maps(items, dirs, failures, args.num_workers, args.quiet), args.result_dir)


def write_tallies(tallies: Mapping[str, Tally], result_dir: Path) -> None:
    """A table on the terminal, metrics.json, and what misc/report/score_files.py says."""
    found = {key: tally.get_results() for key, tally in tallies.items()}
    results = {key: to_json({name: row[name] for name in COLUMNS if name in row}) for key, row in found.items()}
    print(table(results, COLUMNS))
    for key, tally in tallies.items():
        write_scores(result_dir, key, ("image", "digest", *IMAGE_COLUMNS), tally.rows)
        write_curves(result_dir, key, found[key])
    held = read_json(result_dir / "metrics.json")
    others = {key: row for key, row in held.items() if key not in {kind.key for kind in SALIENCY}}
    write_json(result_dir / "metrics.json", {**others, **results})


def score_folders(args: Args, failures: Strict) -> None:
    """args.pred_dir against args.mask_dir, args.boxes or both; prints a table, writes args.out and args.per_image."""
    if not (args.mask_dir or args.boxes):
        raise InputError("nothing to compare with; give --mask_dir, --boxes or both")
    masks = find_images(args.mask_dir, "--mask_dir") if args.mask_dir else {}
    boxes = read_boxes(args.boxes) if args.boxes else {}
    if args.list:
        names = read_names(args.list)
        masks, boxes = _listed(masks, names, "mask"), _listed(boxes, names, "box")

    def score(folder: Path) -> tuple[dict, list[tuple]]:
        preds = find_images(folder, "--pred_dir")
        row, rows = score_masks(preds, masks, folder, failures, args) if masks else ({}, [])
        return row | (score_boxes(preds, boxes, folder, failures, args) if boxes else {}), rows

    print(table(each_folder(args, score, IMAGE_COLUMNS), (*COLUMNS, "max_box_acc", "box_threshold")))


def _listed(known: dict, names: list[str], what: str) -> dict:
    """known, of these names alone; an empty one stays so."""
    for name in names if known else ():
        if name not in known:
            raise InputError(f"--list names {name}, of which there is no {what}")
    return {name: known[name] for name in names} if known else known


def score_masks(
    preds: dict[str, Path], masks: dict[str, Path], folder: Path, failures: Strict, args: Args
) -> tuple[dict, list[tuple]]:
    found, kind = present(masks, folder, preds.get, "eval", failures), folder.name
    items = [Item(stem, masks[stem], {kind: path}) for stem, path in found.items()]
    tally = score_maps(items, [kind], failures, args.num_workers, args.quiet)[kind]
    if not tally.rows:
        raise InputError(f"--pred_dir {folder}: no image of it could be scored")
    results = tally.get_results()
    curves = {name: results.pop(name) for name in CURVES}
    return {**results, "curves_at_255_to_0": curves}, tally.rows


def score_boxes(
    preds: dict[str, Path], boxes: dict[str, ImageBoxes], folder: Path, failures: Strict, args: Args
) -> dict:
    accuracy = BoxAccuracy()
    found = present(boxes, folder, preds.get, "eval", failures)
    pairs = [(path, boxes[name]) for name, path in found.items()]
    done = parallel_map(score_box, pairs, num_workers_for(args.num_workers, len(pairs)))
    for (path, _), result in progress(done, len(pairs), f"boxes {folder.name}", args.quiet):
        if isinstance(result, OSError):
            failures.add("eval", path, result)
        else:
            accuracy.merge(result)
    if not accuracy.n:
        raise InputError(f"--pred_dir {folder}: no map of it has a box")
    results = accuracy.get_results()
    best = {"max_box_acc": results["max_box_acc"], "box_threshold": results["best_threshold"]}
    return {"n": accuracy.n, **best, "box_acc_at_0_to_254": results["box_acc"]}


def score_box(pair: tuple[Path, ImageBoxes]) -> BoxAccuracy:
    accuracy = BoxAccuracy()
    cam = read_gray(pair[0])
    accuracy.step(cam, pair[1].at(cam.shape))
    return accuracy


@stage("boxes")
class Boxes:
    boxes: Path | None = flag(None, "csv of boxes (file, x0, y0, x1, y1[, orig_w, orig_h])", often=True)


main = main_of(Table(__doc__, (Scored(), Boxes(), Command())), score_folders)

if __name__ == "__main__":
    sys.exit(main())
