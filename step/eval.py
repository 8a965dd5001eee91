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
from misc.files.store import read_json, write_csv, write_json
from misc.report.kinds import SALIENCY, folders, is_outdated
from misc.report.saliency_scores import COLUMNS, IMAGE_COLUMNS, Item, Tally, score_maps
from misc.report.score_files import write_curves, write_scores
from misc.run.evaluation import Command, Scored, Strict, main_of, present, short_names, table, to_json
from misc.run.failures import Failures
from misc.run.flags import Args, Table, flag, stage
from misc.run.parallel import num_workers_for, parallel_map, progress
from pgt.metrics.localization import BoxAccuracy


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
    results = {key: tally.means() for key, tally in tallies.items()}
    print(table(results, COLUMNS))
    for key, tally in tallies.items():
        write_scores(result_dir / "scores", key, ("image", "digest", *IMAGE_COLUMNS), tally.rows)
        write_curves(result_dir / "scores", key, tally.curves())
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
    results, rows = {}, []
    for folder in dict.fromkeys(args.pred_dir):
        preds, row = find_images(folder, "--pred_dir"), {}
        if masks:
            found = present(masks, folder, preds.get, "eval", failures)
            items = [Item(stem, masks[stem], {"": path}) for stem, path in found.items()]
            tally = score_maps(items, [""], failures, args.num_workers, args.quiet, f"eval {folder.name}")[""]
            rows += [(str(folder), name, *values) for name, _, *values in tally.rows]
            row |= _saliency_row(tally, folder)
        if boxes:
            row |= score_boxes(preds, boxes, folder, failures, args)
        results[str(folder)] = row
    names = short_names(list(results))
    rows_by_name = {names[folder]: row for folder, row in results.items()}
    print(table(rows_by_name, (*COLUMNS, "max_box_acc", "box_threshold")))
    if args.out:
        write_json(args.out, to_json(results))
    if args.per_image:
        write_csv(args.per_image, ("pred_dir", "image", *IMAGE_COLUMNS), rows)


def _listed(known: dict, names: list[str], what: str) -> dict:
    """known, of these names alone; an empty one stays so."""
    for name in names if known else ():
        if name not in known:
            raise InputError(f"--list names {name}, of which there is no {what}")
    return {name: known[name] for name in names} if known else known


def _saliency_row(tally: Tally, folder: Path) -> dict:
    if not tally.metrics.n:
        raise InputError(f"--pred_dir {folder}: no image of it could be scored")
    results, curves = tally.metrics.get_results(), tally.curves()
    scores = {key: value for key, value in results.items() if key not in curves}
    return {"n": tally.metrics.n, **scores, "e_measure": results["mean_e"], "curves_at_255_to_0": curves}


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
