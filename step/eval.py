"""Maps and labels against masks; alone, any folders of saliency maps, from any project, side by side.

    python -m step.eval --pred_dir A --mask_dir M                      A's maps against the masks M
    python -m step.eval --pred_dir A B --mask_dir M --out scores.json  two folders side by side; curves in the file
    python -m step.eval --pred_dir A --boxes boxes.csv                 MaxBoxAcc of localisation maps

Reads   in a run: RESULT_DIR/cam, cam_pamr, cam_slic, whichever are there; --mask_dir, or the masks of the data set
Writes  in a run: RESULT_DIR/metrics.json; a table on the terminal
Paper   pgt/metrics/saliency.py, pgt/metrics/localization.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from data.datasets import read_names
from data.saliency import open_folder
from misc.errors import InputError
from misc.files.boxes import ImageBoxes, read_boxes
from misc.files.images import find_images, read_gray, read_mask
from misc.files.store import read_json, write_csv, write_json
from misc.run.evaluation import (
    Pair,
    Strict,
    add_evaluator_flags,
    evaluator_parser,
    exit_status,
    present_pairs,
    short_names,
    to_json,
)
from misc.run.evaluation import table as format_table
from misc.run.parallel import num_workers_for, parallel_map, progress
from pgt.metrics.localization import BoxAccuracy
from pgt.metrics.saliency import CURVES, SaliencyMetrics, SaliencyScores, saliency_scores

KINDS = ("cam", "cam_pamr", "cam_slic")
COLUMNS = ("n", "mae", "max_f", "mean_f", "adp_f", "weighted_f", "s_measure", "e_measure")
IMAGE_COLUMNS = ("mae", "max_f", "mean_f", "adp_f", "weighted_f", "s_measure", "max_e", "mean_e", "adp_e")


def run(args, failures) -> None:
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
    results = {}
    for kind, label_dir in label_dirs(args).items():
        if outdated(getattr(args, "cam_out_dir", None) or args.result_dir / "cam", label_dir, stems):
            print(f"eval: {kind} is of other maps than those in cam and is left out: make it again")
            continue
        pairs = [Pair(label_dir / f"{stem}.png", masks[stem]) for stem in stems]
        results[kind] = score(pairs, failures, args.num_workers, args.quiet, kind)
    print(table(results))
    others = {k: v for k, v in read_json(args.result_dir / "metrics.json").items() if k not in KINDS}
    write_json(args.result_dir / "metrics.json", {**others, **results})


def label_dirs(args) -> dict[str, Path]:
    """kind of label -> its folder, of those that are there; not maps that someone else made (--prob_root)."""
    kinds = KINDS[1:] if getattr(args, "prob_root", None) else KINDS
    flags = {kind: getattr(args, f"{kind}_out_dir", None) or args.result_dir / kind for kind in kinds}
    return {kind: path for kind, path in flags.items() if path.is_dir()}


def outdated(cam_dir: Path, label_dir: Path, stems: list[str]) -> bool:
    """Whether no label of these images is in label_dir, or a map was made anew after its label."""
    pairs = [(cam_dir / f"{stem}.png", label_dir / f"{stem}.png") for stem in stems]
    pairs = [(cam, label) for cam, label in pairs if label.is_file()]
    return not pairs or any(cam.is_file() and cam.stat().st_mtime_ns > label.stat().st_mtime_ns for cam, label in pairs)


def score(pairs: list[Pair], failures, num_workers: int, quiet: bool, text: str) -> dict[str, float]:
    """Means over the pairs, with n, the number of them that could be read; the others are added to failures."""
    metrics, _ = score_all(pairs, failures, num_workers, quiet, text)
    if not metrics.n:
        return {"n": 0}
    results = metrics.get_results()
    results["e_measure"] = results["mean_e"]
    return {"n": metrics.n, **{key: round(float(results[key]), 6) for key in COLUMNS[1:]}}


def score_all(pairs, failures, num_workers: int, quiet: bool, text: str) -> tuple[SaliencyMetrics, list[tuple]]:
    """The metrics of the pairs that could be read, and a row of IMAGE_COLUMNS each: (stem, ...)."""
    metrics, rows = SaliencyMetrics(), []
    done = parallel_map(score_one, pairs, num_workers_for(num_workers, len(pairs)))
    for pair, result in progress(done, len(pairs), f"eval {text}", quiet):
        if isinstance(result, OSError):
            failures.add("eval", pair.pred, result)
        else:
            metrics.add(result)
            rows.append((result.name, *(round(float(getattr(result, name)), 6) for name in IMAGE_COLUMNS)))
    return metrics, rows


def score_one(pair: Pair) -> SaliencyScores:
    """Raises OSError where one of the files is missing, corrupt, or of another size than the other."""
    pred, mask = read_gray(pair.pred), read_mask(pair.mask)
    if pred.shape != mask.shape:
        raise OSError(f"is {pred.shape[::-1]}, its mask {pair.mask} {mask.shape[::-1]} (width, height)")
    return saliency_scores(pred, mask, name=pair.pred.stem)


def table(results: dict[str, dict[str, float]]) -> str:
    return format_table(results, COLUMNS)


def score_folders(args, failures) -> None:
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
            pairs = present_pairs(masks, folder, preds.get, "eval", failures)
            metrics, images = score_all(pairs, failures, args.num_workers, args.quiet, folder.name)
            rows += [(str(folder), *image) for image in images]
            row |= _saliency_row(metrics, folder)
        if boxes:
            row |= score_boxes(preds, boxes, folder, failures, args)
        results[str(folder)] = row
    names = short_names(list(results))
    rows_by_name = {names[folder]: row for folder, row in results.items()}
    print(format_table(rows_by_name, (*COLUMNS, "max_box_acc", "box_threshold")))
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


def _saliency_row(metrics: SaliencyMetrics, folder: Path) -> dict:
    if not metrics.n:
        raise InputError(f"--pred_dir {folder}: no image of it could be scored")
    results = metrics.get_results()
    scores = {key: value for key, value in results.items() if key not in CURVES}
    curves = {key: results[key] for key in CURVES}
    return {"n": metrics.n, **scores, "e_measure": results["mean_e"], "curves_at_255_to_0": curves}


def score_boxes(preds: dict[str, Path], boxes: dict[str, ImageBoxes], folder: Path, failures, args) -> dict:
    accuracy = BoxAccuracy()
    pairs = [(pair.pred, pair.mask) for pair in present_pairs(boxes, folder, preds.get, "eval", failures)]
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


def parse(argv: list[str] | None = None):
    parser = evaluator_parser(__doc__)
    add_evaluator_flags(parser)
    parser.add_argument("--mask_dir", type=Path, help="masks; each needs a prediction of its name")
    parser.add_argument("--boxes", type=Path, help="csv of boxes (file, x0, y0, x1, y1[, orig_w, orig_h])")
    parser.add_argument("--list", type=Path, help="score only the images that this file names, one a line")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    failures = Strict(args.allow_missing)
    status = exit_status(lambda: score_folders(args, failures))
    failures.tell()
    return status


if __name__ == "__main__":
    sys.exit(main())
