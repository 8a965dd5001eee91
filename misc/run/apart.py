"""What is read and what is written lie apart: a flag never lets results take the place of somebody's files."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path

from misc.errors import InputError
from misc.files.listing import ARRAYS, SUFFIXES, holds_results
from misc.files.remote import lies_elsewhere
from misc.files.store import remove_parts
from misc.run.flags import Args, Pass

_FOLDERS = {"crf": ("crf_la", "crf_ha"), "sem_seg": ("sem_seg", "sem_seg_sure", "sem_seg_soft")}


def require_apart(args: Args, passes: Mapping[str, Pass] | None = None) -> None:
    """Raises InputError, before any work, where a folder to write is one that is read, lies in it or holds it, where
    two passes have one folder, and where a file to write is somebody's picture.

    RESULT_DIR may lie in a folder that is read, where it is new or of an earlier run: it is left out of the search.
    """
    read = list(paths_of(args, "reads"))
    for flag, path in paths_of(args, "writes"):
        if path.suffix.lower() in SUFFIXES | ARRAYS and path.is_file():
            raise InputError(f"{flag} {path}: is a picture or map; give another name")
    result = args.result_dir.resolve() if "result_dir" in args.places and args.result_dir else None
    for flag, source in read:
        if result and (source == result or (source in result.parents and not _is_ours(result))):
            raise InputError(f"--result_dir {result}: lies in {flag} {source}, among other files; give a new folder")
    written = dict(folders_to_write(args, passes or {}))
    for name, folder in written.items():
        for flag, source in read:
            if _overlap(folder, source) and not (result and result in folder.parents and source in result.parents):
                raise InputError(f"{name} {folder}: would be written over {flag} {source}; give a folder apart from it")
    folders = {**_of_others(args, result), **written}
    for (name, folder), (other, second) in combinations(folders.items(), 2):
        if folder == second:
            raise InputError(f"{name} {folder}: is also that of {other}; give each a folder of its own")


def _overlap(folder: Path, source: Path) -> bool:
    if source.is_file():  # one picture: what lies beside it is no business of the run
        return folder == source.parent
    return folder == source or source in folder.parents or folder in source.parents


def _is_ours(folder: Path) -> bool:
    if lies_elsewhere(folder):
        return False
    return not folder.exists() or (folder.is_dir() and (holds_results(str(folder)) or not any(folder.iterdir())))


def paths_of(args: Args, what: str) -> Iterator[tuple[str, Path]]:
    """--flag -> path, whole, of the flags with this fact."""
    for name, place in args.places.items():
        value = getattr(args, name) if place.facts.get(what) else None
        for path in value if isinstance(value, tuple) else (value,):
            if path is not None:
                yield f"--{name}", path.resolve()


def remove_all_parts(args: Args) -> None:
    """Removes what processes that were killed left in the folders that are written to."""
    for _, path in paths_of(args, "writes"):
        remove_parts(path)


def folders_to_write(args: Args, passes: Mapping[str, Pass]) -> Iterator[tuple[str, Path]]:
    """Folders that passes that are on write into, with words for each, but for RESULT_DIR itself."""
    for name, one in passes.items():
        if one.makes and not one.makes.startswith("train") and getattr(args, name):
            own = getattr(args, f"{one.makes}_out_dir", None)
            for folder in _FOLDERS.get(one.makes, (one.makes,)):
                yield f"the folder of {folder},", (own or args.result_dir / folder).resolve()
    if "out_dir" in args.places:
        yield "--out_dir", args.out_dir.resolve()


def _of_others(args: Args, result: Path | None) -> dict[str, Path]:
    """Of the other maps and labels of saliency, which a run reads."""
    names = [name for name in ("cam", "cam_pamr", "cam_slic") if hasattr(args, f"{name}_out_dir")]
    own = {name: getattr(args, f"{name}_out_dir") or result / name for name in names}
    return {f"the folder of {name},": path.resolve() for name, path in own.items()}
