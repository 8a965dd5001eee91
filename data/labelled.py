"""Images with image-level labels, of any layout behind one table, checked before the first step of a training.

data = open_labelled(Path("my_photos"))                     what lies there tells the layout, see data/layouts.py
val = open_labelled(Path("my_val"), class_names=data.class_names)
print(describe(data))
"""
# ruff: noqa: PTH100, PTH112, PTH119, PTH120, PTH122, PTH208 - a million paths are text, as in data/layouts.py

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from data.datasets import get_dataset, is_background, read_entries
from data.layouts import LAYOUTS, Found, Request, detect_layout, stem_of
from misc.errors import InputError, UnknownClassError
from misc.files.images import image_size, read_image
from misc.files.listing import Listing
from misc.files.store import fingerprint
from misc.run.parallel import num_workers_for, parallel_map

NUM_SAMPLED = 64  # pictures that are decoded when a set is opened
_FEW = 20  # classes that a description lists one by one


@dataclass(frozen=True, eq=False)  # arrays have no truth value
class LabelledImages:
    """files: N, sorted when opened; labels (N,K) uint8, 1 where the image has the class, read-only; class_names: K.

    names: an id per image, of which no two are equal: its stem; where images share one, the path below their common
    folder, without suffix if that will do. Parts of a set keep the names of the whole. told: how they were found, and
    what was passed over.
    """

    files: tuple[Path, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    names: tuple[str, ...] = ()
    told: str = ""

    def __post_init__(self):
        shape = len(self.files), len(self.class_names)
        if self.labels.shape != shape or self.labels.dtype != np.uint8:
            raise ValueError(f"labels must be uint8 {shape}, not {self.labels.dtype} {self.labels.shape}.")
        self.labels.setflags(write=False)
        if not self.names:
            object.__setattr__(self, "names", _unique_names([str(file) for file in self.files]))

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def single_label(self) -> bool:
        """Whether every image has exactly one class, so that softmax and top-1 make sense."""
        return bool((self.labels.sum(axis=1, dtype=np.int64) == 1).all())

    @cached_property
    def counts(self) -> np.ndarray:
        """(K,) int64: images of each class."""
        return self.labels.sum(axis=0, dtype=np.int64)

    def take(self, indices: Sequence[int] | np.ndarray) -> LabelledImages:
        """The images at these indices, in their order."""
        indices = np.asarray(indices, np.int64)
        files, names = (tuple(values[i] for i in indices) for values in (self.files, self.names))
        return LabelledImages(files, self.labels[indices], self.class_names, names, self.told)


def merge(a: LabelledImages, b: LabelledImages) -> LabelledImages:
    """The images of both; one of both, once and with the labels of both. Raises ValueError where classes differ."""
    if a.class_names != b.class_names:
        raise ValueError("sets to be merged must have the same class names; open one with class_names of the other.")
    rows: dict[Path, np.ndarray] = {}
    for data in (a, b):
        for file, label in zip(data.files, data.labels, strict=True):
            rows[file] = rows[file] | label if file in rows else label
    files = tuple(sorted(rows))
    known = {**dict(zip(b.files, b.names, strict=True)), **dict(zip(a.files, a.names, strict=True))}
    names = tuple(known[file] for file in files)
    labels = np.array([rows[file] for file in files], np.uint8).reshape(len(files), len(a.class_names))
    return LabelledImages(files, labels, a.class_names, names if _differ(names) else ())


def open_labelled(
    root: Path,
    layout: str = "auto",
    class_names: Sequence[str] | None = None,
    split: str | None = None,
    list_file: Path | None = None,
    flag: str = "--cls_dataset_dir",
) -> LabelledImages:
    """The images of a data set and the classes of each, checked.

    layout: one of LAYOUTS; auto: what lies in root tells. class_names: the classes and their order, the network's for
    a validation set; by default those of root/class_names.txt (or .json), or else the layout's own. split: which part,
    where the layout has parts. list_file: only images whose stems it names.

    Raises InputError, one line that names the file: for a missing root, missing or unreadable pictures (NUM_SAMPLED of
    them are decoded), a class folder without any, a label that is none of the classes, a list that cannot be read.
    """
    root = Path(root)
    if not root.exists():
        raise InputError(f"{flag} {root}: no such folder or file")
    try:
        layout = detect_layout(root, flag, split) if layout == "auto" else layout
        if layout not in LAYOUTS:
            raise InputError(f"{layout}, the layout of {flag}, is none of auto, {', '.join(LAYOUTS)}")
        entries = read_entries(list_file, flag) if list_file else None
        stems = frozenset(entry.rpartition("/")[2] for entry in entries) if entries else None
        wanted = tuple(class_names) if class_names is not None else named_in(root)
        found = _without_background(LAYOUTS[layout](Request(root, flag, wanted, split, stems)))
    except OSError as e:
        raise InputError(f"{flag} {e.filename or root}: cannot be read ({e.strerror or e})") from e
    names = dict(zip(sorted(found.classes), _unique_names(sorted(found.classes)), strict=True))
    classes = found.classes if entries is None else _restrict(found.classes, entries, f"{flag} {list_file}")
    if not classes:
        raise InputError(f"{flag} {root}: no picture in it, read as {layout}; give another folder or layout")
    if not (wanted or found.class_names):
        raise InputError(f"{flag} {root}: none of its {len(classes)} pictures has a label; give them some")
    told = f"layout {layout}{Listing(passed=found.passed).told()}"
    data = _to_arrays(classes, names, wanted or found.class_names, f"{flag} {root}", told)
    _require_files(list(classes), flag)
    _require_readable(data.files, flag)
    return data


def named_in(root: Path) -> tuple[str, ...] | None:
    """The classes that class_names.txt or .json, or CVAT's labelmap.txt says, in root, or beside it if it is a file."""
    folder = root if root.is_dir() else root.parent
    files = (folder / name for name in ("class_names.txt", "class_names.json", "labelmap.txt"))
    return next((get_dataset(str(file), "class names").class_names for file in files if file.is_file()), None)


def _without_background(found: Found) -> Found:
    """Images of the background are images without a class."""
    if not any(map(is_background, found.class_names)):
        return found
    classes = {path: [name for name in own if not is_background(name)] for path, own in found.classes.items()}
    return Found(classes, tuple(name for name in found.class_names if not is_background(name)), found.passed)


def _restrict(classes: Mapping[str, Collection[str]], entries: Sequence[str], where: str) -> dict:
    """Those that a list names: by their path where it has folders and that tells them apart, else by their stem."""
    by_stem: dict[str, list[str]] = {}
    for path in classes:
        by_stem.setdefault(stem_of(path), []).append(path)
    kept, missing = {}, []
    for entry in entries:
        same = by_stem.get(entry.rpartition("/")[2], [])
        paths = [path for path in same if os.path.splitext(path.replace(os.sep, "/"))[0].endswith(f"/{entry}")] or same
        kept |= {path: classes[path] for path in paths}
        missing += [] if paths else [entry]
    if missing:
        raise InputError(f"{where}: {len(missing)} of its images have no label, {min(missing)} for one")
    return kept


def _to_arrays(
    classes: Mapping[str, Collection[str]],
    names: Mapping[str, str],
    class_names: tuple[str, ...],
    where: str,
    told: str,
) -> LabelledImages:
    column = {name: i for i, name in enumerate(class_names)}
    unknown = set().union(*set(map(frozenset, classes.values()))).difference(column)
    if unknown:
        known = ", ".join(class_names[:_FEW]) + ", ..." * (len(class_names) > _FEW)
        name = min(unknown)
        image = Path(min(path for path in classes if name in classes[path])).name
        problem = f"{name!r} is none of the {len(class_names)} classes ({known}), and {image} has it"
        raise UnknownClassError(f"{where}: {problem}; rename or remove it")
    paths = sorted(classes)
    labels = np.zeros((len(paths), len(class_names)), np.uint8)
    rows = np.repeat(np.arange(len(paths)), [len(classes[path]) for path in paths])
    labels[rows, [column[name] for path in paths for name in classes[path]]] = 1
    return LabelledImages(tuple(map(Path, paths)), labels, class_names, tuple(names[path] for path in paths), told)


def require_learnable(data: LabelledImages, flag: str) -> None:
    """Raises InputError where there is nothing to tell apart: every image has the one class."""
    if len(data.class_names) == 1 and data.labels.all():
        raise InputError(
            f"{flag}: all {len(data)} images are of the one class {data.class_names[0]}, which teaches nothing; add "
            "images without it, in a folder `background` or with an empty label"
        )


def _require_files(paths: Sequence[str], flag: str) -> None:
    """Lists each folder once, instead of asking for each file."""
    there: dict[str, set[str]] = {}
    for folder in {os.path.dirname(path) for path in paths}:
        names = os.listdir(folder or ".") if os.path.isdir(folder or ".") else []
        there[folder] = set(map(os.path.normcase, names))
    missing = [path for path in paths if os.path.normcase(os.path.basename(path)) not in there[os.path.dirname(path)]]
    if missing:
        counts = f"{len(missing)} of {len(paths)} pictures are missing"
        raise InputError(f"{flag}: {counts}, {min(missing)} for one; get them")


def _require_readable(files: Sequence[Path], flag: str) -> None:
    sample = [files[i] for i in spread(len(files))]
    # a result of None: pictures are not kept
    done = parallel_map(lambda path: read_image(path) is None, sample, num_workers_for(0, len(sample)))
    for path, problem in done:
        if isinstance(problem, OSError):
            raise InputError(f"{flag}: {path} is no picture that can be read ({problem}); replace or remove it")


def spread(n: int) -> list[int]:
    """NUM_SAMPLED of n indices, evenly; or all of them."""
    return np.linspace(0, n - 1, min(n, NUM_SAMPLED)).round().astype(int).tolist()


def digest(files: Sequence[Path]) -> str:
    """Of a sample of what is trained on: other files are another training, which does not go on from the state."""
    return fingerprint(*(files[i] for i in spread(len(files))))


def _unique_names(paths: Sequence[str]) -> tuple[str, ...]:
    """See LabelledImages."""
    stems = [stem_of(path) for path in paths]
    if _differ(stems):
        return tuple(stems)
    common = len(_common_folder(paths))
    below = [os.path.abspath(path)[common:].lstrip(os.sep).replace(os.sep, "/") for path in paths]
    shorter = [os.path.splitext(path)[0] for path in below]
    return tuple(shorter if _differ(shorter) else below)


def _differ(names: Sequence[str]) -> bool:
    """Also on disks that do not tell upper from lower case."""
    return len({name.lower() for name in names}) == len(names)


def _common_folder(paths: Sequence[str]) -> str:
    folders = {os.path.abspath(os.path.dirname(path)) for path in paths}
    try:
        return os.path.commonpath(folders)
    except ValueError:  # on two drives
        return ""


def describe(data: LabelledImages) -> str:
    """The table of what was found: images, classes, images per class, labels per image, sizes of a sample."""
    per_image = data.labels.sum(axis=1, dtype=np.int64)
    none, one, more = ((per_image == 0).sum(), (per_image == 1).sum(), (per_image > 1).sum())
    rows = {
        "read as": data.told,
        "images": f"{len(data)} in {_common_folder([str(file) for file in data.files])}",
        "classes": str(len(data.class_names)),
        "labels": f"{per_image.sum()}; images with none {none}, with one {one}, with more {more}",
        "per class": _ranked(data),
        "without images": _shortened([n for n, count in zip(data.class_names, data.counts, strict=True) if not count]),
        "size": _sizes(data.files),
    }
    return "\n".join(f"{title:16}{text}" for title, text in rows.items() if text)


def _ranked(data: LabelledImages) -> str:
    counts = zip(data.counts.tolist(), data.class_names, strict=True)
    cells = [f"{name} {n}" for n, name in sorted(counts, key=lambda pair: -pair[0]) if n]
    return ", ".join(cells if len(cells) <= _FEW else [*cells[:5], "...", *cells[-5:]])


def _shortened(names: Sequence[str]) -> str:
    return ", ".join([*names[:_FEW], f"... ({len(names)})"] if len(names) > _FEW else names)


def _sizes(files: Sequence[Path]) -> str:
    sizes = sorted((image_size(files[i])[::-1] for i in spread(len(files))), key=lambda size: (size[0] * size[1], size))
    low, middle, high = (f"{w}x{h}" for w, h in (sizes[0], sizes[len(sizes) // 2], sizes[-1]))
    return low if low == high else f"{low} to {high}, median {middle} (width x height of {len(sizes)})"
