"""Maps and labels against masks.

Reads   RESULT_DIR/cam, cam_pamr, cam_slic, whichever are there; --mask_dir, or the masks of the data set
Writes  RESULT_DIR/metrics.json; a table on the terminal
Paper   misc/metrics.py
"""

from dataclasses import dataclass
from pathlib import Path

from data.saliency import open_folder
from misc.images import find_images, read_gray, read_mask
from misc.metrics import SaliencyMetrics, SaliencyScores, saliency_scores
from misc.parallel import num_workers_for, parallel_map, progress
from misc.store import read_json, write_json

KINDS = ("cam", "cam_pamr", "cam_slic")
COLUMNS = ("n", "mae", "max_f", "mean_f", "adp_f", "weighted_f", "s_measure", "e_measure")


@dataclass(frozen=True)
class Pair:
    pred: Path
    mask: Path


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
        if outdated(label_dirs(args)["cam"], label_dir, stems):
            print(f"eval: {kind} is of other maps than those in cam and is left out: make it again")
            continue
        pairs = [Pair(label_dir / f"{stem}.png", masks[stem]) for stem in stems]
        results[kind] = score(pairs, failures, args.num_workers, args.quiet, kind)
    print(table(results))
    others = {k: v for k, v in read_json(args.result_dir / "metrics.json").items() if k not in KINDS}
    write_json(args.result_dir / "metrics.json", {**others, **results})


def label_dirs(args) -> dict[str, Path]:
    """kind of label -> its folder, of those that are there."""
    flags = {kind: getattr(args, f"{kind}_out_dir", None) or args.result_dir / kind for kind in KINDS}
    return {kind: path for kind, path in flags.items() if path.is_dir()}


def outdated(cam_dir: Path, label_dir: Path, stems: list[str]) -> bool:
    """Whether no label of these images is in label_dir, or a map was made anew after its label."""
    pairs = [(cam_dir / f"{stem}.png", label_dir / f"{stem}.png") for stem in stems]
    pairs = [(cam, label) for cam, label in pairs if label.is_file()]
    return not pairs or any(cam.is_file() and cam.stat().st_mtime_ns > label.stat().st_mtime_ns for cam, label in pairs)


def score(pairs: list[Pair], failures, num_workers: int, quiet: bool, text: str) -> dict[str, float]:
    """Means over the pairs, with n, the number of them that could be read; the others are added to failures."""
    metrics = SaliencyMetrics()
    done = parallel_map(score_one, pairs, num_workers_for(num_workers, len(pairs)))
    for pair, result in progress(done, len(pairs), f"eval {text}", quiet):
        if isinstance(result, OSError):
            failures.add("eval", pair.pred, result)
        else:
            metrics.add(result)
    if not metrics.n:
        return {"n": 0}
    results = metrics.get_results()
    results["e_measure"] = results["mean_e"]
    return {"n": metrics.n, **{key: round(float(results[key]), 6) for key in COLUMNS[1:]}}


def score_one(pair: Pair) -> SaliencyScores:
    """Raises OSError where one of the files is missing, corrupt, or of another size than the other."""
    pred, mask = read_gray(pair.pred), read_mask(pair.mask)
    if pred.shape != mask.shape:
        raise OSError(f"is {pred.shape[::-1]}, its mask {pair.mask} {mask.shape[::-1]} (width, height)")
    return saliency_scores(pred, mask, name=pair.pred.stem)


def table(results: dict[str, dict[str, float]]) -> str:
    lines = [f"{'':10}" + "".join(f"{name:>12}" for name in COLUMNS)]
    for kind, row in results.items():
        cells = (row.get(name) for name in COLUMNS)
        lines.append(
            f"{kind:10}" + "".join(f"{'' if v is None else v if isinstance(v, int) else f'{v:.3f}':>12}" for v in cells)
        )
    return "\n".join(lines)
