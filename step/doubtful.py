"""Which labels to look at first: a number per image, without masks.

    python run_sample.py photos          and result/doubtful.csv names the most doubtful images first

Reads   RESULT_DIR/<kind> of misc/report/kinds.py, of classes also crf_la and crf_ha, whichever are there
Writes  RESULT_DIR/doubtful.csv: name, doubt (0 to 1), and what it is made of (pgt/metrics/doubt.py); cells are empty
        where an image has nothing to compare
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from misc.files.images import at_size, read_gray
from misc.files.predictions import Cams, read_label, read_prediction
from misc.files.store import write_csv
from misc.report.kinds import SALIENCY, SEG_CAM, SEGMENTATION, Kind, folders, is_outdated
from misc.run.failures import Failures
from misc.run.flags import Args
from misc.run.parallel import num_workers_for, parallel_map
from misc.run.progress import progress, talk_of
from pgt.metrics.doubt import doubt_of, doubts_of_classes, doubts_of_saliency
from step.sets import open_images, open_shown

_COLUMNS = ("labels", "crf", "map", "classes", "unsure", "border", "share")
_CRF = ("crf_la", "crf_ha")
Doubts = Callable[[str], dict[str, float] | None]


def run(args: Args, failures: Failures) -> None:
    """Of saliency labels."""
    images = open_images(args).images
    dirs = {kind: d for kind, d in folders(SALIENCY, args).items() if not is_outdated(kind, images, args)}
    write_doubts(images, partial(of_saliency, dirs=dirs), args, failures)
    if [kind.style for kind in dirs].count("gray") == 1:
        print("doubtful: there is one kind of label, and two tell more: run make_label, make_slic or make_sal too")


def run_classes(args: Args, failures: Failures) -> None:
    """Of labels of classes."""
    parts = list(open_shown(args).values())
    files, known = {}, {}
    for part in parts:
        files |= zip(part.images.names, part.images.files, strict=True)
        known |= zip(part.images.names, part.images.labels, strict=True)
    work = partial(of_classes, dirs=folders(SEGMENTATION, args), args=args, known=known, ignore=parts[0].spec.ignore)
    write_doubts(files, work, args, failures)


def write_doubts(images: Mapping[str, Path], doubts: Doubts, args: Args, failures: Failures) -> None:
    """doubts(name) -> ingredients, None where an image has no label. What cannot be read is added to failures."""
    todo = [name for name, path in images.items() if path not in failures]
    done = parallel_map(doubts, todo, num_workers_for(args.num_workers, len(todo)))
    found: dict[str, dict[str, float]] = {}
    for name, result in progress(done, len(todo), "doubtful", talk_of(args)):
        if isinstance(result, OSError):
            failures.add("doubtful", images[name], result)
        elif result is not None:
            found[name] = result
    path = args.result_dir / "doubtful.csv"
    if not found:
        print(f"doubtful: no labels in {args.result_dir} to compare")
        return
    columns = [column for column in _COLUMNS if any(column in row for row in found.values())]
    rows = sorted(((-doubt_of(row), name, row) for name, row in found.items()), key=lambda row: row[:2])
    cells = [(name, round(-d, 4), *(round(row[c], 4) if c in row else "" for c in columns)) for d, name, row in rows]
    write_csv(path, ("name", "doubt", *columns), cells)
    print(f"doubtful: {len(cells)} images, {', '.join(name for name, *_ in cells[:3])} first, in {path}", flush=True)


def of_saliency(name: str, dirs: Mapping[Kind, Path]) -> dict[str, float] | None:
    files = {kind: folder / f"{name}{kind.suffix}" for kind, folder in dirs.items()}
    there = [(kind.style, read_gray(path)) for kind, path in files.items() if path.is_file()]
    labels = [gray for style, gray in there if style != "heat"]
    cam = next((gray for style, gray in there if style == "heat"), None)
    if cam is not None and labels:
        with suppress(ValueError):  # of another shape: it counts for nothing
            cam = at_size(cam, labels[0].shape)
    return doubts_of_saliency(labels, cam) if labels else None


def of_classes(
    name: str, dirs: Mapping[Kind, Path], args: Args, known: Mapping[str, np.ndarray], ignore: int
) -> dict[str, float] | None:
    files = {kind: folder / f"{name}{kind.suffix}" for kind, folder in dirs.items()}
    labels = [read_label(path) for kind, path in files.items() if kind.style == "classes" and path.is_file()]
    if not labels:
        return None
    cams = files.get(SEG_CAM)
    cam = strongest(cams) if cams and cams.is_file() else None
    crf = [best_label(path) for f in _CRF if (path := args.result_dir / f / f"{name}.npz").is_file()]
    return doubts_of_classes(labels, (np.flatnonzero(known[name]) + 1).tolist(), ignore, cam, crf)


def strongest(path: Path) -> np.ndarray | None:
    """CAMs in path -> (H,W) in [0,1], the strongest of each pixel over the strongest of all; None without a class."""
    cams = read_prediction(path)
    if not isinstance(cams, Cams) or not cams.labels.size:
        return None
    best = cams.scores.max(axis=0).clip(0)
    return best / max(float(best.max()), 1e-12)


def best_label(path: Path) -> np.ndarray:
    """CRF map in path -> (H,W) ids."""
    maps = read_prediction(path, keys="label")
    if not isinstance(maps, Cams):
        raise OSError(f"{path} holds no CRF map; remove it and run make_crf")
    return np.asarray(maps.labels)[maps.scores.argmax(0)]
