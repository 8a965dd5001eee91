"""Runs whose images or results lie elsewhere: under URLs, or in tars. Passes see paths of this machine
(misc/files/remote.py); here is what a run does at its two edges.

A shard is fetched when its passes need it, labelled here, put, and taken away: its markers are put last, and those of
before are removed first. So a marker never tells of files that are not there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from misc.errors import InputError
from misc.files import remote
from misc.files.listing import list_pictures
from misc.files.store import read_json, remove_parts, write_json
from misc.run.flags import Args

_TAR = ".tar"
_MAY = ("sal_dataset_dir", "img_root", "manifest", "mask_dir", "prob_root")  # flags that read what may lie elsewhere
_OF_SHARDS = ("runs", "members")  # folders of RESULT_DIR that no pass over all images reads


def begin(args: Args) -> None:
    """Finds out what lies elsewhere; where images come in tars, results do so too. Raises InputError for flags that
    cannot be URLs, and for trainings, which read their images many times."""
    far = {name: url for name in args.places if (url := _url_of(getattr(args, name)))}
    for name, url in far.items():
        if name not in _MAY and not args.places[name].facts.get("writes"):
            raise InputError(f"--{name} {url}: has to lie on this machine")
        if url.startswith("file://") and name not in _MAY:
            remove_parts(Path(url.removeprefix("file://")))
    tars = hasattr(args, "sal_dataset_dir") and _are_tars(args)
    if not (far or tars or _names_urls(args)):
        return
    if train := next((name for name in args.places if name.startswith("train_") and getattr(args, name) is True), None):
        raise InputError(f"--{train}: a training reads no URLs and no tars; train on files of this machine")
    args.opened |= {"far": True, "tars": tars}
    if tars:
        _put_results_into_tars(args)
    if _url_of(args.result_dir):
        weights = (entry.path for entry in remote.listing(args.result_dir / "ckpt"))
        remote.fetch_all(path for path in weights if path.suffix == ".pth")


def is_far(args: Args) -> bool:
    """Whether images or results lie elsewhere."""
    return args.opened.get("far", False)


def of_tars(args: Args) -> bool:
    """Whether images come in tars, each of which is a shard."""
    return args.opened.get("tars", False)


def _url_of(value: Any) -> str | None:
    return remote.url_of(value) if isinstance(value, Path) else None


def _names_urls(args: Args) -> bool:
    listed = getattr(args, "manifest", None) if "manifest" in args.places else None
    return listed is not None and listed.is_file() and b"://" in listed.read_bytes()


def _are_tars(args: Args) -> bool:
    """As RESULT_DIR/manifest.txt has it; before there is one, as the list or the folder of images has it."""
    path = args.result_dir / "manifest.txt"
    remote.fetch_all([p for p in (path, args.manifest) if p])
    if path.is_file():
        return _facts_of(path).get("tars", False)
    if args.manifest is not None:
        return args.manifest.is_file() and args.manifest.read_bytes().rstrip().endswith(_TAR.encode())
    folder = args.sal_dataset_dir
    return bool(tars_in(folder)) and (folder.suffix == _TAR or not list_pictures(folder, args.images_flag).files)


def _facts_of(manifest: Path) -> dict:
    """Empty for a file that is none, of which whoever opens it tells."""
    try:
        with manifest.open("rb") as f:
            held = json.loads(f.readline()[1:])
    except ValueError:
        return {}
    return held if isinstance(held, dict) else {}


def tars_in(folder: Path) -> list[Path]:
    """The tars that lie in a folder, sorted; of one that is a tar itself, that."""
    if folder.suffix == _TAR:
        return [folder]
    found = (entry.path for entry in remote.listing(folder)) if remote.url_of(folder) else folder.glob(f"*{_TAR}")
    return sorted(path for path in found if path.suffix == _TAR and path.parent == folder)


def _put_results_into_tars(args: Args) -> None:
    """A tar is a shard, and results become tars of its name, also those that lie on this machine."""
    args.shard_size = 1
    for name in {"result_dir", "prob_root", "output_root", *(n for n in (*vars(args), *args.places) if "out_dir" in n)}:
        if isinstance(path := getattr(args, name, None), Path):
            if remote.url_of(path) is None:
                remove_parts(path)
            setattr(args, name, remote.elsewhere(path))


# ---- what is made goes where it belongs


def put_shard(args: Args) -> None:
    """What passes made of a shard. What cannot be put is told in a marker, which then says that nothing is done."""
    if not is_far(args):
        return
    news = remote.news()
    markers = [path for path in news if path.is_relative_to(args.result_dir / "runs") and path.suffix == ".json"]
    lost = {}
    for path in markers:
        if remote.is_there(path):
            try:
                remote.remove(path)
            except OSError as e:
                lost[path] = e
    if not lost:
        lost = _put_by_kinds([path for path in news if path not in markers], args)
    if lost:
        for path in markers:
            write_json(path, {**read_json(path), "state": ""})
        told = {remote.url_of(path) or str(path): str(error) for path, error in lost.items()}
        for path in markers[:1]:
            held = read_json(path)
            write_json(path, {**held, "failed": {**held["failed"], **told}})
    remote.put(markers)


def _put_by_kinds(paths: Sequence[Path], args: Args) -> dict[Path, OSError]:
    """One kind after the other, as they were made: a map is never newer than the labels of it."""
    kinds: dict[str, list[Path]] = {}
    for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns):
        inside = path.is_relative_to(args.result_dir)
        kinds.setdefault(path.relative_to(args.result_dir).parts[0] if inside else "", []).append(path)
    lost = {}
    for some in kinds.values():
        lost |= remote.put(some)
    return lost


def put_all() -> None:
    """What is new, and not of a shard. Raises InputError where it cannot be put."""
    for error in remote.put(remote.news()).values():
        raise InputError(f"{error}; the same command goes on")


def bring_results(args: Args) -> None:
    """Before passes over all images: what shards have left. Images and masks come when they are looked at."""
    if is_far(args) and remote.lies_elsewhere(args.result_dir):
        remote.bring(args.result_dir, _OF_SHARDS)


@contextmanager
def at_the_edges() -> Iterator[None]:
    """Around all of a run: what it says names URLs, and what it leaves is put where it belongs."""
    if not remote.in_use():
        yield
        return
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_Named, streams)
    try:
        yield
        put_all()
    except InputError as e:
        raise InputError(remote.told(str(e))) from e
    finally:
        sys.stdout, sys.stderr = streams
        remote.leave()


class _Named:
    """A stream on which URLs stand for the paths that stand for them."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(remote.told(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
