"""How results were made: RESULT_DIR/settings/<what>.json beside the folder <what> of each pass.

A pass writes its record when it writes results. A pass that is off, and whose results are read, lends what its record
holds: what nobody says again is as it was, and what is said otherwise stops the run.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from misc.errors import InputError
from misc.files.store import read_json, write_json
from misc.run.flags import Args, Flag, Pass
from pgt import __version__

_PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "scikit-image", "pillow", "numba")


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def record_path(args: Args, what: str) -> Path:
    return args.result_dir / "settings" / f"{what}.json"


def write_record(args: Args, pass_name: str, what: str, folder: Path, keep: bool = False, **facts: Any) -> None:
    """facts: what else the results depend on, such as network, weights and their sha256. keep: only where none is."""
    path = record_path(args, what)
    if keep and path.exists():
        return
    values = args.flat()
    settings = {name: values[name] for name in args.flags_of(pass_name)}
    changed = {name: value for name, value in settings.items() if value != args.defaults[name]}
    inside = args.result_dir in folder.parents
    held = {
        "pass": pass_name,
        "folder": (folder.relative_to(args.result_dir) if inside else folder.absolute()).as_posix(),
        "made": datetime.now().isoformat(timespec="seconds"),
        "version": __version__,
        **facts,
        "changed": {k: {"default": plain(args.defaults[k]), "is": plain(v)} for k, v in changed.items()},
        "settings": {k: plain(v) for k, v in settings.items()},
        "versions": versions(),
    }
    write_json(path, held)


def plain(value: Any) -> Any:
    """As JSON holds it; paths are whole, so that they lead there from any folder."""
    if isinstance(value, Path):
        return str(value.absolute())
    return [plain(v) for v in value] if isinstance(value, (tuple, list)) else value


def read_record(path: Path) -> dict[str, Any]:
    """Raises InputError for a record that is there and cannot be read; empty where there is none."""
    held = read_json(path)
    if path.exists() and not (isinstance(held.get("settings"), dict) and isinstance(held.get("folder"), str)):
        raise InputError(
            f"{path}: holds no settings that can be read; remove it, and run the pass that writes it again"
        )
    return held


def lent(passes: Mapping[str, Pass], args: Args, given: Mapping[str, object]) -> dict[str, object]:
    """Flag -> value, of the records of passes that are off and come before any that is on and makes something.

    Raises InputError where a given flag says otherwise, or a record cannot be read.
    """
    found: dict[str, object] = {}
    for name, what in ((name, one.makes) for name, one in passes.items()):
        if not what:
            continue
        if getattr(args, name):
            break
        path = record_path(args, what)
        held = read_record(path)
        if held and _is_of_folder(held, args, what):
            lends = [n for n, lends in args.flags_of(name.removesuffix("_pass")).items() if lends]
            found |= _agreed(path, held["settings"], {n: args.places[n] for n in lends}, given, name)
    return {k: v for k, v in found.items() if k not in given}


def _is_of_folder(held: Mapping[str, Any], args: Args, what: str) -> bool:
    """Not where a flag says to read another folder than the one that the record is of."""
    own = getattr(args, f"{what}_out_dir", None) if f"{what}_out_dir" in args.places else None
    return own is None or own.absolute() == (args.result_dir / held["folder"]).absolute()


def _agreed(
    path: Path, settings: Mapping[str, Any], places: Mapping[str, Flag], given: Mapping[str, object], name: str
) -> dict[str, object]:
    found = {}
    for flag, place in places.items():
        if flag not in settings:
            continue
        try:
            value = place.checked(place.from_json(settings[flag]))
        except (ValueError, InputError) as e:
            raise InputError(f"{path}: cannot be read ({e}); remove it, and run what writes it again") from e
        if flag in given and not _same(flag, given[flag], value):
            was = f"{path.stem} was made with {plain(value)} ({path})"
            raise InputError(f"--{flag} {plain(given[flag])}: {was}; give that, --{name}, or another --result_dir")
        found[flag] = value
    return found


def _same(flag: str, given: Any, made_with: Any) -> bool:
    if isinstance(given, Path) and isinstance(made_with, Path):
        return given.resolve() == made_with.resolve()
    if flag == "limit" and given is not None:  # the first few of what is there
        return made_with is None or given <= made_with
    return given == made_with


def maps_of_run_sample(args: Args) -> tuple[Path, Path | None, int | None]:
    """run_slic.py's images, the folder of their maps and how many of them: what its flags say, else what run_sample.py
    recorded. Raises InputError where neither tells."""
    if args.img_root is not None and args.prob_root is not None:
        return args.img_root, args.prob_root, args.limit
    path = record_path(args, "cam")
    held = read_record(path)
    if not held:
        raise InputError(f"{path} is missing: run run_sample.py first, or give --img_root and --prob_root")
    settings, folder = held["settings"], args.result_dir / held["folder"]
    root, limit = settings.get("sal_dataset_dir"), settings.get("limit")
    if not isinstance(root, str) or not isinstance(limit, int | None):
        raise InputError(f"{path}: does not say what run_sample.py labelled; give --img_root and --prob_root")
    if args.img_root is not None and args.img_root.resolve() != Path(root).resolve():
        raise InputError(f"--img_root {args.img_root}: {folder} holds maps of {root} ({path}); give --prob_root too")
    return Path(root), args.prob_root or folder, args.limit or limit
