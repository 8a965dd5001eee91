"""Files that lie elsewhere. A path below a temporary folder of this process stands for one, by one rule both ways:

    <here>/s3/bucket/photos/a.jpg    is    s3://bucket/photos/a.jpg
    <here>/s3/bucket/x.tar/a.jpg     is    the member a.jpg of the tar s3://bucket/x.tar

A flag that is a URL becomes such a path (as_path). Whoever reads a file of it has it fetched (fetch), and what is new
below the folder is put where it belongs, an object at a time (put). Credentials and endpoints are fsspec's business.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, NamedTuple

from misc.errors import InputError, one_line
from misc.files import tars
from misc.files.store import fingerprint, is_of_the_dead, own_name
from misc.files.stores import patiently, store_of
from misc.run.parallel import parallel_map

_URL = re.compile(r"([a-z][a-z0-9+.-]+)://(.*)", re.DOTALL)
_AT_ONCE = 16  # requests under way
_STAMPS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "updated", "mtime", "created")
_TIMES = _STAMPS[3:]
_COLON = "\ua789" if os.name == "nt" else ":"  # a letter that looks like one: Windows takes none in a name
_PREFIX = "generate-pgt"


class Entry(NamedTuple):
    """A file of a listing: its path here, size in bytes, what changes when it does, and when that was, in seconds."""

    path: Path
    size: int
    stamp: str
    time: float


class _Known:
    """What this process knows. clean: size and time, here, of what is as it is there; failed: what could not be
    fetched, and why; held: what is dropped with the shard that is under way; whole: folders of which all is here."""

    def __init__(self) -> None:
        self.root: Path | None = None
        self.clean: dict[Path, tuple[int, int]] = {}
        self.failed: dict[Path, OSError] = {}
        self.held: set[Path] = set()
        self.whole: set[Path] = set()
        self.listed: dict[Path, list[Entry]] = {}
        self.unpacked: set[Path] = set()
        self.lock = threading.RLock()


_KNOWN = _Known()


# ---- paths and URLs


def as_path(text: Any) -> Any:
    """Text -> path, of a URL the one here that stands for it; anything else as it is. Raises InputError for a URL that
    cannot be used."""
    found = _URL.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return Path(text) if isinstance(text, str) else text
    scheme, rest = found.groups()
    parts = [part for part in rest.replace(os.sep, "/").split("/") if part]
    if not parts or not {".", ".."}.isdisjoint(parts):
        raise InputError(f"{text}: names no file or folder; give scheme://bucket/folder")
    return _root().joinpath(scheme, *(part.replace(":", _COLON) for part in parts))


def url_of(path: Path) -> str | None:
    """The URL that a path stands for; None of any other path."""
    if _KNOWN.root is None or not path.is_relative_to(_KNOWN.root):
        return None
    scheme, *parts = path.relative_to(_KNOWN.root).parts or ("",)
    return f"{scheme}://{'/' * (scheme == 'file' and os.name != 'nt')}{'/'.join(parts).replace(_COLON, ':')}"


def elsewhere(path: Path) -> Path:
    """The path that stands for a file or folder of this machine, as if it lay elsewhere."""
    return path if url_of(path) else as_path(f"file://{path.absolute().as_posix()}")


def told(text: str) -> str:
    """A text in which URLs stand for the paths that stand for them."""
    if _KNOWN.root is None:
        return text
    pattern = re.escape(str(_KNOWN.root)) + r"[/\\]([a-z][a-z0-9+.-]+)[/\\]?"
    return re.sub(pattern, lambda m: f"{m[1]}://{'/' * (m[1] == 'file' and os.name != 'nt')}", text)


def below(folder: Path, line: str) -> Path:
    """A line of a list of paths and URLs: its file, as seen from folder."""
    return as_path(line) if _URL.fullmatch(line) else folder / line


def _root() -> Path:
    if _KNOWN.root is None:
        sweep()
        _KNOWN.root = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{own_name()}-")).resolve()
        Finalize(None, shutil.rmtree, (_KNOWN.root, True), exitpriority=0)  # of a worker's process, too
    return _KNOWN.root


def in_use() -> bool:
    """Whether any path stands for a URL."""
    return _KNOWN.root is not None


def sweep() -> None:
    """Removes the folders of processes of this machine that are no more, where the system tells of them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}.*") if os.name != "nt" else ():
        if folder.resolve() != _KNOWN.root and is_of_the_dead(folder.name.removeprefix(_PREFIX)):
            shutil.rmtree(folder, ignore_errors=True)


def leave() -> None:
    """Ends it: nothing that was fetched stays here."""
    if _KNOWN.root is not None:
        shutil.rmtree(_KNOWN.root, ignore_errors=True)
        _KNOWN.__init__()
        sweep()


# ---- reading


def _at(path: Path) -> tuple[Any, str]:
    """The store of a path, and its URL."""
    url = url_of(path)
    assert url is not None
    return store_of(url.partition("://")[0]), url


def fetch(path: Path) -> None:
    """Brings a file that lies elsewhere, where it is not here yet; of a tar all its members. Raises OSError."""
    if url_of(path) is None or path.is_file():
        return
    at = _object_of(path)
    if at in _KNOWN.failed:
        raise _KNOWN.failed[at]
    try:
        if at != path:
            _unpack(at)
        else:
            _keep(path, _read(path))
    except OSError as e:
        _KNOWN.failed[at] = e
        raise


def fetch_all(paths: Iterable[Path]) -> None:
    """Several at once; of what cannot be fetched, whoever reads it is told why."""
    wanted = [path for path in dict.fromkeys(paths) if url_of(path) and not path.exists()]
    for path in wanted:
        _at(path)  # a store is opened by this thread, once
    for _ in parallel_map(fetch, wanted, _AT_ONCE, 4 * _AT_ONCE) if wanted else ():
        pass


def _read(path: Path) -> bytes:
    store, url = _at(path)
    try:
        return patiently(lambda: store.cat_file(url))
    except FileNotFoundError:
        raise FileNotFoundError(f"{url}: no such file") from None
    except OSError as e:
        raise OSError(f"{url}: cannot be read ({one_line(e)})") from e


def _keep(path: Path, data: bytes, when: float | None = None) -> None:
    """data as the file at path; others see it whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / f"{own_name()}.part"
    part.write_bytes(data)
    if when is not None:
        os.utime(part, (when, when))
    part.replace(path)
    _KNOWN.clean[path] = _stamp(path)


def _unpack(tar: Path, when: float | None = None) -> None:
    """The members of a tar that are not here yet."""
    with _KNOWN.lock:
        if tar in _KNOWN.unpacked:
            return
        if tar in _KNOWN.failed:  # while this one waited
            raise _KNOWN.failed[tar]
        for path, data in tars.members(tar, _read(tar)):
            if not path.exists():
                _keep(path, data, when)
        _KNOWN.unpacked.add(tar)


def fail(path: Path, error: OSError) -> None:
    """Whoever reads it is told so."""
    _KNOWN.failed[path] = error


def files_of_tar(tar: Path) -> list[Path]:
    """Its members, which are here then."""
    _unpack(tar)
    return sorted(path for path in tar.rglob("*") if path.is_file())


def listing(folder: Path) -> list[Entry]:
    """All files below a folder that lies elsewhere, by their paths; asked for once. Raises InputError."""
    if folder not in _KNOWN.listed:
        store, url = _at(folder)
        store.invalidate_cache()
        start = len(store._strip_protocol(url).rstrip("/")) + 1
        try:
            found = patiently(lambda: store.find(url, detail=True))
        except FileNotFoundError:  # no such bucket
            found = {}
        except OSError as e:
            raise InputError(f"{url}: cannot be listed ({one_line(e)})") from e
        names = ((name[start:], info) for name, info in sorted(found.items()))
        _KNOWN.listed[folder] = [
            Entry(folder / name, int(info.get("size") or 0), _first(info, _STAMPS), _seconds(info))
            for name, info in names
            if name and {".", "..", ""}.isdisjoint(name.split("/"))
        ]
    return _KNOWN.listed[folder]


def _first(info: dict[str, Any], names: Sequence[str]) -> str:
    return str(next((info[name] for name in names if info.get(name)), ""))


def _seconds(info: dict[str, Any]) -> float:
    when = next((info[name] for name in _TIMES if info.get(name)), 0.0)
    when = datetime.fromisoformat(when.replace("Z", "+00:00")) if isinstance(when, str) else when
    return when.timestamp() if isinstance(when, datetime) else float(when)


def digest_of_listing(folder: Path) -> str:
    """Of the names, sizes and stamps of all files below a folder that lies elsewhere."""
    return fingerprint(
        *(f"{path.relative_to(folder).as_posix()} {size} {stamp}" for path, size, stamp, _ in listing(folder))
    )


def lies_elsewhere(folder: Path) -> bool:
    """Whether what is in a folder has to be asked for: it stands for a URL, and not all of it is here."""
    return url_of(folder) is not None and not any(folder.is_relative_to(whole) for whole in _KNOWN.whole)


def is_folder(path: Path) -> bool:
    return bool(listing(path)) if lies_elsewhere(path) else path.is_dir()


def bring(folder: Path, but: Sequence[str] = ()) -> None:
    """Everything below a folder, but for what lies in these of its folders, with its times."""
    _KNOWN.listed.pop(folder, None)
    wanted = [e for e in listing(folder) if e.path.relative_to(folder).parts[0] not in but and not e.path.exists()]

    def one(entry: Entry) -> None:
        if entry.path.suffix == ".tar":
            _unpack(entry.path, entry.time)
        else:
            _keep(entry.path, _read(entry.path), entry.time)

    for entry, error in parallel_map(one, wanted, _AT_ONCE, 4 * _AT_ONCE) if wanted else ():
        if isinstance(error, OSError):
            raise InputError(f"{told(str(entry.path))}: {error}; the same command goes on")
    _KNOWN.whole.add(folder)


def any_failed(paths: Iterable[Path]) -> bool:
    """Whether any of them could not be fetched."""
    return bool(_KNOWN.failed) and any(_object_of(path) in _KNOWN.failed for path in paths)


# ---- writing


def _stamp(path: Path) -> tuple[int, int]:
    held = path.stat()
    return held.st_size, held.st_mtime_ns


def news() -> list[Path]:
    """Files here that are not there, or otherwise."""
    return [path for path in _files_here() if _KNOWN.clean.get(path) != _stamp(path)]


def _files_here() -> Iterator[Path]:
    for folder, _, names in os.walk(_KNOWN.root) if _KNOWN.root else ():
        yield from (Path(folder, name) for name in names if not name.endswith(".part"))


def put(paths: Iterable[Path]) -> dict[Path, OSError]:
    """Puts files where they belong, each in one request, or with its whole tar -> what could not be, and why."""
    objects: dict[Path, list[Path]] = {}
    for path in paths:
        objects.setdefault(_object_of(path), []).append(path)
    for at in objects:
        _at(at)
    lost = {}
    for at, error in parallel_map(_put, list(objects), _AT_ONCE, 4 * _AT_ONCE) if objects else ():
        if isinstance(error, OSError):
            lost[at] = OSError(f"{url_of(at)}: cannot be written ({one_line(error)})")
        else:
            _KNOWN.clean.update((path, _stamp(path)) for path in objects[at])
    return lost


def _object_of(path: Path) -> Path:
    return tars.tar_of(path) or path


def _put(at: Path) -> None:
    store, url = _at(at)
    if at.is_dir():  # members that others have put there stay
        with suppress(FileNotFoundError):
            _unpack(at)
        data = tars.packed(at)
    else:
        data = at.read_bytes()
    patiently(lambda: store.pipe_file(url, data))


def is_there(path: Path) -> bool:
    """Whether a file that is here was fetched or put."""
    return path in _KNOWN.clean


def remove(path: Path) -> None:
    """A file that lies elsewhere; no error where there is none. Raises OSError."""
    store, url = _at(path)
    with suppress(FileNotFoundError):
        patiently(lambda: store.rm_file(url))
    _KNOWN.clean.pop(path, None)


def discard(path: Path) -> None:
    """A file, here and where it belongs. Raises InputError where it cannot be removed."""
    path.unlink(missing_ok=True)
    try:
        remove(path) if url_of(path) else None
    except OSError as e:
        raise InputError(f"{url_of(path)}: cannot be removed ({one_line(e)}); the same command goes on") from e


# ---- room


def hold(paths: Iterable[Path]) -> None:
    """Until drop."""
    _KNOWN.held.update(path for path in paths if url_of(path))


def drop() -> None:
    """Takes away, here, what was held."""
    gone = {_object_of(path) for path in _KNOWN.held}
    for path in gone:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for known in (_KNOWN.clean, _KNOWN.failed):
        for path in [path for path in known if _object_of(path) in gone]:
            del known[path]
    _KNOWN.unpacked -= gone
    _KNOWN.held.clear()
