"""How results were made: RESULT_DIR/settings/<what>.json beside the folder <what> of each pass.

A pass writes its record when it writes results. A pass that is off, and whose results are read, lends what its record
holds: what nobody says again is as it was, and what is said otherwise stops the run.
"""

from __future__ import annotations

import importlib.metadata
import os
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
    found = {d.name: d.version for d in importlib.metadata.distributions() if d.name in _PACKAGES}
    return {"python": platform.python_version(), "platform": platform.platform(), **found}


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
    held = {
        "pass": pass_name,
        "folder": plain(folder, args.result_dir),
        "made": datetime.now().isoformat(timespec="seconds"),
        "version": __version__,
        **facts,
        "changed": {k: {"default": plain(args.defaults[k]), "is": plain(v)} for k, v in changed.items()},
        "settings": {k: plain(v, args.result_dir) for k, v in settings.items()},
        "versions": versions(),
    }
    write_json(path, held)


def plain(value: Any, start: Path | None = None) -> Any:
    """As JSON holds it; paths are whole, or as seen from the folder start, so that both may move together."""
    if isinstance(value, Path):
        try:
            return Path(os.path.relpath(value, start)).as_posix() if start else str(value.absolute())
        except ValueError:  # on another drive
            return str(value.absolute())
    return [plain(v, start) for v in value] if isinstance(value, (tuple, list)) else value


def read_record(path: Path) -> dict[str, Any]:
    """Raises InputError for a record that is there and cannot be read; empty where there is none."""
    held = read_json(path)
    if path.exists() and not (isinstance(held.get("settings"), dict) and isinstance(held.get("folder"), str)):
        raise InputError(f"{path}: holds no settings that can be read; remove it, and run what writes it again")
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
            for flag, value in _settings_of(held, args, {n: args.places[n] for n in lends}, path).items():
                if flag in given and not _same(flag, given[flag], value):
                    was = f"{what} was made with {plain(value)} ({path})"
                    said = f"--{flag} {plain(given[flag])}"
                    raise InputError(f"{said}: {was}; give that, --{name}, or another --result_dir")
                found[flag] = value
    return {k: v for k, v in found.items() if k not in given}


def _is_of_folder(held: Mapping[str, Any], args: Args, what: str) -> bool:
    """Not where a flag says to read another folder than the one that the record is of."""
    own = getattr(args, f"{what}_out_dir", None) if f"{what}_out_dir" in args.places else None
    return own is None or own.resolve() == (args.result_dir / held["folder"]).resolve()


def _settings_of(held: Mapping[str, Any], args: Args, places: Mapping[str, Flag], path: Path) -> dict[str, object]:
    """The values of those of these flags that a record has. Raises InputError for what they cannot be."""
    try:
        values = {n: f.checked(held["settings"][n]) for n, f in places.items() if n in held["settings"]}
    except InputError as e:
        raise InputError(f"{path}: cannot be read ({e}); remove it, and run what writes it again") from e
    return {n: Path(os.path.normpath(args.result_dir / v)) if isinstance(v, Path) else v for n, v in values.items()}


def _same(flag: str, given: Any, made_with: Any) -> bool:
    if isinstance(given, Path) and isinstance(made_with, Path):
        return given.resolve() == made_with.resolve() or not made_with.exists()  # what is gone may have moved
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
    places = {"sal_dataset_dir": args.places["img_root"], "limit": args.places["limit"]}
    found, folder = _settings_of(held, args, places, path), Path(os.path.normpath(args.result_dir / held["folder"]))
    root = found.get("sal_dataset_dir")
    if not isinstance(root, Path):
        raise InputError(f"{path}: does not say what run_sample.py labelled; give --img_root and --prob_root")
    if args.img_root is not None and not _same("img_root", args.img_root, root):
        raise InputError(f"--img_root {args.img_root}: {folder} holds maps of {root} ({path}); give --prob_root too")
    return args.img_root or root, args.prob_root or folder, args.limit or found.get("limit")
