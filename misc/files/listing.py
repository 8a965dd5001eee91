"""Which files of a folder are pictures, by what each entry is; what is passed over is counted by kind."""
# ruff: noqa: PTH110, PTH122 - a million paths are text here: as many Path objects take ten times as long

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from PIL import Image

from misc.errors import InputError
from misc.files.remote import lies_elsewhere, listing
from misc.files.store import read_json

HEIF = frozenset((".heic", ".heif") if find_spec("pillow_heif") else ())
_KNOWN = ".jpg .jpeg .jpe .jfif .mpo .png .bmp .webp .tif .tiff .gif .avif .jp2 .j2k .ppm .pgm .pbm .pnm .tga .ico"
# what the Pillow that is here reads
SUFFIXES = frozenset(_KNOWN.split(" ")) & frozenset(Image.registered_extensions()) | HEIF
ARRAYS = frozenset((".npz", ".npy"))
CUT = SUFFIXES | ARRAYS | {".xml", ".json", ".heic", ".heif"}  # from names in lists
_OF_SYSTEMS = frozenset(("@eadir", "__macosx", "#recycle", "$recycle.bin", "system volume information", "lost+found"))
_RUN_FILES = ("args.json", "args_slic.json")  # one of them is in the folder of every run's results
# what tools append to the name of an image to name its mask
_OF_MASK = re.compile(r"[-_. ](masks?|gt|groundtruth|labels?|labelids|seg|segmentation|annotations?)$", re.IGNORECASE)
Value = TypeVar("Value")


@dataclass
class Listing:
    """files: path below the folder, without suffix, in POSIX's way -> file, sorted; twins: names that several files
    have -> these; passed: kind -> how many entries of it were passed over."""

    files: dict[str, Path] = field(default_factory=dict)
    twins: dict[str, list[Path]] = field(default_factory=dict)
    passed: Counter = field(default_factory=Counter)

    def told(self) -> str:
        """Of what was passed over, the most frequent kinds first."""
        kinds = [f"{n} {kind}" for kind, n in sorted(self.passed.items(), key=lambda item: (-item[1], item[0]))]
        return f"; passed over: {', '.join(kinds)}" if kinds else ""


def list_pictures(folder: Path, flag: str, suffixes: Collection[str] = SUFFIXES) -> Listing:
    """All pictures below folder. Raises InputError, with the flag's name, for a folder that is absent or cannot be
    read."""
    far = lies_elsewhere(folder)
    if not far and not folder.is_dir():
        raise InputError(f"{flag} {folder}: {'is no folder' if folder.exists() else 'no such folder'}")
    found, root, names = Listing(), os.fspath(folder), {}
    try:
        for path in (_of_store if far else walk)(root, found.passed, suffixes):
            names.setdefault(os.path.splitext(path[len(root) :].lstrip(os.sep))[0].replace(os.sep, "/"), []).append(
                path
            )
    except OSError as e:
        raise InputError(f"{flag} {folder}: cannot be read ({e.strerror or e})") from e
    for name in sorted(names):
        paths = [Path(path) for path in sorted(names[name])]
        found.files[name] = paths[0]
        if len(paths) > 1:
            found.twins[name] = paths
    return found


def walk(folder: str, passed: Counter, suffixes: Collection[str] = SUFFIXES) -> Iterator[str]:
    """Regular files with these suffixes at any depth. Counted, and passed over: what is no regular file, links to
    folders, hidden entries, folders that systems keep, and results of this program."""
    folders = []
    with os.scandir(folder) as entries:
        for entry in entries:
            suffix = os.path.splitext(entry.name)[1].lower()
            if entry.name.startswith("."):
                passed["hidden"] += 1
            elif (kind := _kind_of(entry)) == "file":
                if suffix in suffixes:
                    yield entry.path
                else:
                    passed[suffix or "without a suffix"] += 1
            elif kind != "folder":
                passed[kind] += 1
            elif entry.is_symlink():
                passed["link to a folder"] += 1
            elif entry.name.lower() in _OF_SYSTEMS:
                passed[f"folder {entry.name}"] += 1
            elif holds_results(entry.path):
                passed["folder of results"] += 1
            else:
                passed["folder named as a picture"] += suffix in suffixes
                folders.append(entry.path)
    for path in folders:
        try:
            yield from walk(path, passed, suffixes)
        except PermissionError:
            passed["folder that may not be read"] += 1
    for kind in [kind for kind, n in passed.items() if not n]:
        del passed[kind]


def _of_store(folder: str, passed: Counter, suffixes: Collection[str]) -> Iterator[str]:
    """walk, of a folder that lies elsewhere, in which there are no links."""
    for entry in listing(Path(folder)):
        path = os.fspath(entry.path)
        parts = path[len(folder) :].lower().replace(os.sep, "/").split("/")
        suffix = os.path.splitext(path)[1].lower()
        if any(part.startswith(".") for part in parts):
            passed["hidden"] += 1
        elif not _OF_SYSTEMS.isdisjoint(parts[:-1]):
            passed["in folders of systems"] += 1
        elif suffix in suffixes:
            yield path
        else:
            passed[suffix or "without a suffix"] += 1


def _kind_of(entry: os.DirEntry) -> str:
    """file, folder, or what else it is; links are followed."""
    try:
        if entry.is_file():
            return "file"
        if entry.is_dir():
            return "folder"
    except OSError:  # a link to itself
        return "dangling link"
    return "no regular file" if os.path.exists(entry.path) else "dangling link"


def subfolders(folder: Path) -> list[str]:
    """Names, sorted, of the folders in a folder that walk would go into, links to folders too."""
    there = (entry for entry in os.scandir(folder) if not entry.name.startswith(".") and _kind_of(entry) == "folder")
    return sorted(e.name for e in there if e.name.lower() not in _OF_SYSTEMS and not holds_results(e.path))


def holds_results(folder: str) -> bool:
    """Whether a run of this program has written its flags there."""
    names = (os.path.join(folder, name) for name in _RUN_FILES)  # noqa: PTH118
    return any(os.path.isfile(name) and {"args", "versions"} <= read_json(Path(name)).keys() for name in names)  # noqa: PTH113


def require_single(listing: Listing, flag: str) -> dict[str, Path]:
    """listing's files. Raises InputError, which names two, where files share a name."""
    for one, other, *_ in listing.twins.values():
        raise InputError(f"{flag}: {one} and {other} have one name and would share a label; rename one of them")
    return listing.files


def matched(names: Iterable[str], files: Mapping[str, Value]) -> dict[str, Value]:
    """name -> its file: of the same path below their folders; else of the same last part, where no other name and no
    other file has that. Without those that have none."""
    names, by_last = list(names), {}
    for name in files:
        by_last.setdefault(_last(name), []).append(name)
    count = Counter(map(_last, names))
    found = {}
    for name in names:
        same = by_last.get(_last(name), ())
        if name in files:
            found[name] = files[name]
        elif len(same) == 1 and count[_last(name)] == 1:
            found[name] = files[same[0]]
    return found


def find_masks(folder: Path, names: Iterable[str], flag: str) -> dict[str, Path]:
    """name of an image -> its mask below folder, see matched; the mask may also be called NAME_mask, NAME-gt, ...
    Raises InputError for an absent folder, and where an image has two."""
    listing, names = list_pictures(folder, flag), list(names)
    own = matched(names, listing.files)
    taken, others = set(own.values()), {}
    for name, path in listing.files.items():
        if path not in taken and (shorter := _OF_MASK.sub("", name)) != name:
            others.setdefault(shorter, []).append(path)
    more = matched([name for name in names if name not in own], others)
    own |= {name: paths[0] for name, paths in more.items()}
    taken = set(own.values())
    twins = {name: paths for name, paths in {**listing.twins, **others}.items() if len(paths) > 1}
    return require_single(Listing(own, {n: paths for n, paths in twins.items() if paths[0] in taken}), flag)


def name_of(text: str) -> str:
    """What a list calls an image -> its path in POSIX's way, without the suffix of a picture, an array or an
    annotation: other dots may be of its name."""
    text = text.strip().replace("\\", "/").lstrip("/").removeprefix("./")
    return text[: -len(suffix)] if (suffix := Path(text).suffix).lower() in CUT else text


def _last(name: str) -> str:
    return name.rpartition("/")[2]
