"""How results were made: RESULT_DIR/settings/<what>.json beside the folder <what> of each pass.

A pass writes its record when it writes results, or finds that all are as another run would make them. A pass that is
off, and whose results are read, lends what its record holds: what nobody says again is as it was, and what is said
otherwise stops the run.
"""

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from misc.errors import InputError
from misc.files.remote import fetch_all, url_of
from misc.files.store import read_json, write_json
from misc.run.distributed import is_main
from misc.run.flags import Args, Flag, Pass
from pgt import __version__

_PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "scikit-image", "pillow", "numba")


def versions() -> dict[str, str]:
    found = {d.name: d.version for d in importlib.metadata.distributions() if d.name in _PACKAGES}
    return {"python": platform.python_version(), "platform": platform.platform(), **found}


def record_path(args: Args, what: str) -> Path:
    return args.result_dir / "settings" / f"{what}.json"


def write_record(args: Args, pass_name: str, what: str, folder: Path, made: bool = True, **facts: Any) -> None:
    """facts: what else the results depend on, such as network, weights and their sha256. made: whether this run made
    any of them; where not, a record that says the same stays as it is."""
    path, values = record_path(args, what), args.flat()
    there = [n for n in args.flags_of(pass_name) if values[n] is not None or args.places[n].optional]
    settings = {name: values[name] for name in there}  # without those of a CRF that is left out
    changed = {name: value for name, value in settings.items() if value != args.defaults[name]}
    held = {
        "pass": pass_name,
        "folder": plain(folder, args.result_dir),
        **{k: plain(v, args.result_dir) for k, v in facts.items()},
        "changed": {k: {"default": plain(args.defaults[k]), "is": plain(v)} for k, v in changed.items()},
        "settings": {k: plain(v, args.result_dir) for k, v in settings.items()},
    }
    fetch_all([path])
    if made or not held.items() <= (read_json(path) if path.exists() else {}).items():
        now = datetime.now().isoformat(timespec="seconds")
        write_json(path, {"made": now, "version": __version__, **held, "versions": versions()})


def plain(value: Any, start: Path | None = None) -> Any:
    """As JSON holds it; paths are whole, or as seen from the folder start, so that both may move together."""
    if isinstance(value, Path):
        if url_of(value) and not (start and url_of(start)):
            return url_of(value)
        start = start if url_of(value) or not (start and url_of(start)) else None
        try:
            return Path(os.path.relpath(value, start)).as_posix() if start else str(value.absolute())
        except ValueError:  # on another drive
            return str(value.absolute())
    return [plain(v, start) for v in value] if isinstance(value, (tuple, list)) else value


def read_record(path: Path) -> dict[str, Any]:
    """Raises InputError for a record that is there and cannot be read; empty where there is none."""
    fetch_all([path])
    held = read_json(path)
    if path.exists() and not (isinstance(held.get("settings"), dict) and isinstance(held.get("folder"), str)):
        raise InputError(f"{path}: holds no settings that can be read; remove it, and run what writes it again")
    return held


def lent(passes: Mapping[str, Pass], args: Args, given: Mapping[str, object]) -> dict[str, object]:
    """Flag -> value, of the records of what passes that are off have made and passes that are on read. Tells what of
    it is not so by default.

    Raises InputError where a given flag says otherwise, records contradict each other, or one cannot be read.
    """
    found: dict[str, list[tuple[object, str, Path]]] = {}
    for what, name in _that_are_read(passes, args).items():
        path = record_path(args, what)
        held = read_record(path)
        if held and _is_of_folder(held, args, what):
            lends = [n for n, lends in args.flags_of(name.removesuffix("_pass")).items() if lends]
            for flag, value in _settings_of(held, args, {n: args.places[n] for n in lends}, path).items():
                found.setdefault(flag, []).append((value, what, path))
    for flag, values in found.items():
        if flag == "limit":  # what all of them have
            values.sort(key=lambda one: (one[0] is None, one[0]))
        wanted = given.get(flag, values[0][0])
        said = f"--{flag} {plain(wanted)}" if flag in given else f"{values[0][1]} with --{flag} {plain(wanted)}"
        for value, what, path in values:
            if not _same(flag, wanted, value):
                instead = "give that, run the pass that makes it, or give another --result_dir"
                raise InputError(f"{said}: {what} was made with {plain(value)} ({path}); {instead}")
    taken = {flag: values[0][0] for flag, values in found.items() if flag not in given}
    news = [n for n, v in taken.items() if args.places[n].facts.get("often") and plain(v) != plain(getattr(args, n))]
    if news and is_main():
        print("as it was made: " + ", ".join(f"--{n} {plain(taken[n])}" for n in news), flush=True)
    return taken


def settings_beside(args: Args, checkpoint: Path, what: str, flags: Sequence[str]) -> dict[str, object]:
    """Flag -> value, of those flags that the run of which RESULT_DIR/ckpt/<name>.pth is recorded when it used it; empty
    where there is no such record, or it is of another checkpoint."""
    folder = checkpoint.absolute().parent.parent
    held = read_record(path := folder / "settings" / f"{what}.json")
    if not held or (folder / str(held.get("weights"))).resolve() != checkpoint.resolve():
        return {}
    places = {name: args.places[name] for name in flags if held["settings"].get(name) is not None}
    return _settings_of(held, args, {n: f for n, f in places.items() if f.kind is not Path}, path)


def _that_are_read(passes: Mapping[str, Pass], args: Args) -> dict[str, str]:
    """What passes that are on read, but for what flags say to read instead -> the pass that makes it, which is off."""
    makers = {one.makes: name for name, one in passes.items() if one.makes and not getattr(args, name)}
    on = (one.reads for name, one in passes.items() if getattr(args, name))
    read = {what for reads in on for what, instead in reads.items() if not (instead and getattr(args, instead))}
    return {what: name for what, name in makers.items() if what in read}


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
    if isinstance(given, str) and isinstance(made_with, str):
        return given == made_with or Path(given).resolve() == Path(made_with).resolve()
    if flag == "limit" and given is not None:  # the first few of what is there
        return made_with is None or given <= made_with
    return given == made_with


def maps_of_run_sample(args: Args) -> tuple[Path, Path | None, int | None, Path | None]:
    """run_slic.py's images, the folder of their maps, how many of them and the list of them: what its flags say, else
    what run_sample.py recorded. Raises InputError where neither tells."""
    own = args.img_root or (args.manifest and args.manifest.parent)
    if own is not None and args.prob_root is not None:
        return own, args.prob_root, args.limit, args.manifest
    path = record_path(args, "cam")
    held = read_record(path)
    if not held and own is None:
        raise InputError(f"{path} is missing: run run_sample.py first, or give --img_root and --prob_root")
    if not held:  # of before there were records, or of another program
        return own, args.prob_root or args.result_dir / "cam", args.limit, args.manifest
    places = {"sal_dataset_dir": args.places["img_root"], **{name: args.places[name] for name in ("limit", "manifest")}}
    found, folder = _settings_of(held, args, places, path), Path(os.path.normpath(args.result_dir / held["folder"]))
    root = found.get("sal_dataset_dir")
    if not isinstance(root, Path):
        raise InputError(f"{path}: does not say what run_sample.py labelled; give --img_root and --prob_root")
    if args.img_root is not None and not _same("img_root", args.img_root, root):
        raise InputError(f"--img_root {args.img_root}: {folder} holds maps of {root} ({path}); give --prob_root too")
    manifest = args.manifest or (found.get("manifest") if args.img_root is None else None)
    return args.img_root or root, args.prob_root or folder, args.limit or found.get("limit"), manifest
