"""Which labels to look at first: a number per image, without masks.

    python run_sample.py photos          and result/doubtful.csv names the most doubtful images first

Reads   RESULT_DIR/<kind> of misc/report/kinds.py, of classes also crf_la and crf_ha, whichever are there
Writes  RESULT_DIR/doubtful.csv: name, doubt (0 to 1), and what it is made of (pgt/metrics/doubt.py); cells are empty
        where an image has nothing to compare
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from misc.files.images import at_size, read_gray
from misc.files.predictions import Cams, read_label, read_prediction
from misc.files.store import write_csv
from misc.report.kinds import SALIENCY, SEG_CAM, SEGMENTATION, Kind, folders, is_outdated
from misc.run.failures import Failures
from misc.run.flags import Args
from misc.run.parallel import num_workers_for, parallel_map
from misc.run.parts import Files, in_parts
from misc.run.progress import progress, talk_of
from pgt.metrics.doubt import doubt_of, doubts_of_classes, doubts_of_saliency
from step.sets import open_images, open_shown, shard_of

_COLUMNS = ("labels", "crf", "map", "classes", "unsure", "border", "share")
_CRF = ("crf_la", "crf_ha")
Doubts = Callable[[str], dict[str, float] | None]


def run(args: Args, failures: Failures) -> None:
    """Of saliency labels."""

    def doubts(images: Files) -> Doubts:
        dirs = {kind: d for kind, d in folders(SALIENCY, args).items() if not is_outdated(kind, images, args)}
        return partial(of_saliency, dirs=dirs)

    labels = [(folder, kind.suffix) for kind, folder in folders(SALIENCY, args).items()]
    columns = tell_doubts(lambda: open_images(args).images, doubts, labels, args, failures)
    if columns and "labels" not in columns:
        print("doubtful: there is one kind of label, and two tell more: run make_label, make_slic or make_sal too")


def run_classes(args: Args, failures: Failures) -> None:
    """Of labels of classes."""
    files, known, ignore = args.once("doubted", lambda: _shown(args))
    places = shard_of(args, len(files))
    own = dict(islice(files.items(), places.start, places.stop))
    dirs = folders(SEGMENTATION, args)
    labels = [*((d, kind.suffix) for kind, d in dirs.items()), *((args.result_dir / name, ".npz") for name in _CRF)]
    work = partial(of_classes, dirs=dirs, args=args, known=known, ignore=ignore)
    tell_doubts(lambda: own, lambda _: work, labels, args, failures)


def _shown(args: Args) -> tuple[Files, dict[str, np.ndarray], int]:
    """Of all images: their files, their known classes; and the label that stands for none."""
    parts = list(open_shown(args).values())
    files, known = {}, {}
    for part in parts:
        files |= zip(part.images.names, part.images.files, strict=True)
        known |= zip(part.images.names, part.images.labels, strict=True)
    return files, known, parts[0].spec.ignore


def tell_doubts(
    opened: Callable[[], Files],
    doubts: Callable[[Files], Doubts],
    labels: Sequence[tuple[Path, str]],
    args: Args,
    failures: Failures,
) -> list[str]:
    """doubts(images)(name) -> ingredients, None where an image has no label; labels: folders and suffixes of what it
    reads. What cannot be read is added to failures. -> the columns that are told of: none where nothing is told."""

    def usable() -> Files:
        return {name: path for name, path in opened().items() if path not in failures}

    def files(images: Files) -> Iterator[Path]:
        return (folder / f"{name}{suffix}" for folder, suffix in labels for name in images)

    find = lambda images: {"doubts": find_doubts(images, doubts(images), args, failures)}  # noqa: E731
    parts = in_parts("doubtful", usable, files, find, args, failures)
    return write_doubts(lambda: (row for part in parts() for row in part["doubts"]), args) if parts else []


def find_doubts(images: Files, doubts: Doubts, args: Args, failures: Failures) -> list[tuple[str, dict[str, float]]]:
    """-> name and ingredients, of images with a label."""
    done, found = parallel_map(doubts, [*images], num_workers_for(args.num_workers, len(images))), []
    for name, result in progress(done, len(images), "doubtful", talk_of(args)):
        if isinstance(result, OSError):
            failures.add("doubtful", images[name], result)
        elif result is not None:
            found.append((name, result))
    return found


def write_doubts(rows: Callable[[], Iterator[tuple[str, dict[str, float]]]], args: Args) -> list[str]:
    """rows(): name and ingredients of each image. -> the columns of doubtful.csv."""
    path, there = args.result_dir / "doubtful.csv", {column for _, row in rows() for column in row}
    if not there:
        print(f"doubtful: no labels in {args.result_dir} to compare")
        return []
    columns, first, num = [column for column in _COLUMNS if column in there], [], 0

    def cells() -> Iterator[tuple]:
        nonlocal num
        for name, doubt, row in most_doubtful_first(rows()):
            num += 1
            first.append(name) if num <= 3 else None
            yield name, round(doubt, 4), *(round(row[c], 4) if c in row else "" for c in columns)

    write_csv(path, ("name", "doubt", *columns), cells())
    print(f"doubtful: {num} images, {', '.join(first)} first, in {path}", flush=True)
    return columns


def most_doubtful_first(
    rows: Iterable[tuple[str, dict[str, float]]],
) -> Iterator[tuple[str, float, dict[str, float]]]:
    """Names and ingredients -> with their doubt, by that and by name; sorted on the disk, as there may be millions."""
    with closing(sqlite3.connect("")) as db:
        db.execute("CREATE TABLE rows (name BLOB, doubt REAL, held TEXT)")
        given = ((name.encode("utf-8", "surrogateescape"), doubt_of(row), json.dumps(row)) for name, row in rows)
        db.executemany("INSERT INTO rows VALUES (?, ?, ?)", given)
        for name, doubt, held in db.execute("SELECT name, doubt, held FROM rows ORDER BY doubt DESC, name"):
            yield name.decode("utf-8", "surrogateescape"), doubt, json.loads(held)


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
