"""Files that are whole or absent, and that know what they were made from.

Every PNG and NPZ written here carries a fingerprint of its input and of the settings behind it. A run that starts again
keeps a file whose fingerprint is the one it would write, and makes every other one anew: killed runs continue, and no
result of another image, network or flag is ever taken for this one's.
"""

import codecs
import csv
import errno
import hashlib
import io
import itertools
import json
import os
import platform
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from misc.errors import InputError

KEY = "Fingerprint"
_OF_THE_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EISDIR)  # others are of the disk
_HOST = hashlib.blake2b(platform.node().encode(), digest_size=3).hexdigest()
_PARTS = itertools.count()
_UNDER_WAY: set[Path] = set()  # what `replacing` has not moved yet
_DAY = 86400  # seconds


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside path, no one else's; moved to path, and on the disk, when the block ends well,
    removed when it does not.

    Raises InputError where the system does not let it be written (no space, no right); OSError for a name that it does
    not take.
    """
    part = _part_in(path.parent)
    _UNDER_WAY.add(part)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with part.open("r+b") as f:
            os.fsync(f.fileno())  # a rename that a power cut leaves without its bytes is a file of zeros
        part.replace(path)
    except OSError as e:
        if e.errno is None:  # not the file system's: a download's, say
            raise
        if e.errno in _OF_THE_NAME:
            raise OSError(f"cannot write {path}: {e.strerror}") from e
        raise InputError(f"cannot write {path}: {e.strerror}; free space there, or choose another folder") from e
    finally:
        part.unlink(missing_ok=True) if part.parent.is_dir() else None
        _UNDER_WAY.discard(part)


def drop_parts() -> None:
    """Removes what this process has under way: it is about to end."""
    for part in [*_UNDER_WAY]:
        with suppress(OSError):
            part.unlink()


def _part_in(folder: Path) -> Path:
    """A name that no one else has, and that is short: a file may be called by as many letters as there can be."""
    return folder / f"{own_name()}.part"


def own_name() -> str:
    """One that begins with a dot, tells whose it is, and comes once."""
    return f".{_HOST}-{os.getpid()}-{next(_PARTS)}"


def is_of_the_dead(name: str) -> bool:
    """Whether a name that begins as own_name's do is of a process of this machine that is no more."""
    host, _, pid = name[1:].partition("-")
    pid = pid.partition("-")[0]
    return host == _HOST and pid.isdigit() and not _is_alive(int(pid))


def remove_parts(folder: Path) -> None:
    """Removes what processes that were killed left of `replacing` below folder: those of this machine that are no more,
    and all that is older than a day."""
    for root, _, names in os.walk(folder):
        for path in (Path(root, name) for name in names if name.startswith(".") and name.endswith(".part")):
            with suppress(OSError):  # taken by another process, or (Windows) open in one
                if is_of_the_dead(path.name) or time.time() - path.stat().st_mtime > _DAY:
                    path.unlink()


def _is_alive(pid: int) -> bool:
    if pid == os.getpid():  # another process had that number: this one calls before it writes
        return False
    if os.name == "nt":  # a signal would end it; and open files cannot be removed there
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def require_writable(folder: Path) -> None:
    """Raises InputError where files cannot be made in folder (made if absent): before any work, not after it."""
    part = _part_in(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.touch()
        part.unlink()
    except OSError as e:
        raise InputError(f"cannot write {folder}: {e.strerror}; choose another folder") from e


def fingerprint(*parts: bytes | str | Path | dict) -> str:
    """32 hex digits that differ where any part does: bytes, text, a file's content, or settings (JSON-able)."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, Path):
            part = part.read_bytes()
        elif isinstance(part, dict):
            part = json.dumps(part, sort_keys=True)
        if isinstance(part, str):
            part = part.encode()
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def write_png(path: Path, array: np.ndarray, made_from: str | None = None, palette: np.ndarray | None = None) -> None:
    """Writes array ((H,W) uint8 or uint16, or (H,W,3) uint8) to path, with the fingerprint made_from, atomically.

    palette: (256,3) uint8 RGB, of a palette picture of (H,W).
    """
    picture, info = Image.fromarray(array), PngInfo()
    if palette is not None:
        picture.putpalette(palette.tobytes())  # and is a palette picture from here on
    if made_from is not None:
        info.add_text(KEY, made_from)
    with replacing(path) as part:
        picture.save(part, format="PNG", pnginfo=info, compress_level=3)


def fingerprint_of(path: Path) -> str | None:
    """That of a PNG or NPZ, None where it has none or is not whole: the sums of all its parts are checked."""
    try:
        data = path.read_bytes()
        if path.suffix == ".npz":
            return _of_npz(data)
        if not _is_whole_png(data):
            return None
        with Image.open(io.BytesIO(data)) as image:
            return image.info.get(KEY)
    except Exception:  # whatever a damaged file leads to
        return None


def _of_npz(data: bytes) -> str | None:
    with zipfile.ZipFile(io.BytesIO(data)) as held:
        if held.testzip():
            return None
    with np.load(io.BytesIO(data), allow_pickle=False) as npz:
        return str(npz[KEY.lower()])


def _is_whole_png(data: bytes) -> bool:
    """Whether chunks with right sums fill it from its signature to its end."""
    at, kind = 8, b""
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if zlib.crc32(data[at + 4 : end]).to_bytes(4, "big") != data[end : end + 4]:
            return False
        at = end + 4
    return kind == b"IEND" and at == len(data)


def is_current(path: Path, made_from: str) -> bool:
    """Whether path is a PNG or NPZ with this fingerprint."""
    return fingerprint_of(path) == made_from


def write_npz(path: Path, made_from: str, **arrays: np.ndarray) -> None:
    """Writes arrays to path, compressed, with the fingerprint made_from, atomically."""
    with replacing(path) as part, part.open("wb") as f:
        np.savez_compressed(f, **arrays, **{KEY.lower(): np.array(made_from)})


def write_cams(path: Path, keys: np.ndarray, cam: np.ndarray, made_from: str = "", bits: int = 8) -> None:
    """keys (P,), cam (P,H,W) in [0,1] -> an .npz that misc/files/predictions.py reads: keys, cam uint8 and scale 1/255;
    or of 16 bits uint16 and 1/65535.

    A value is off by half the scale at most; 0 and 1 are exact.
    """
    dtype = np.dtype(f"u{bits // 8}")
    top = np.iinfo(dtype).max
    levels = np.rint(np.clip(cam, 0, 1) * np.float32(top)).astype(dtype)
    write_npz(path, made_from, keys=np.asarray(keys, np.uint8 if max(keys, default=0) < 256 else np.uint16), cam=levels,
              scale=np.float32(1 / top))  # fmt: skip


def write_text(path: Path, text: str, errors: str = "surrogateescape") -> None:
    """In UTF-8; names of files that are not come out as the bytes that they are."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", errors=errors)


def read_text(path: Path) -> str:
    """A text of people: in UTF-8, or UTF-16 where its byte order mark says so, without the mark.

    Raises OSError, and ValueError for another encoding.
    """
    data = path.read_bytes()
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if marked else "utf-8-sig")


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n", "backslashreplace")  # JSON's escapes too


def read_json(path: Path) -> dict:
    """The JSON object at path; empty where there is none, or none that can be read."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def write_csv(path: Path, header: tuple[str, ...], rows: Iterable[Sequence]) -> None:
    with replacing(path) as part:
        add_rows(part, itertools.chain([header], rows), "w")


def add_rows(path: Path, rows: Iterable[Sequence], mode: str = "a") -> None:
    """Rows at the end of a csv; mode "w": of a new one."""
    with path.open(mode, newline="", encoding="utf-8", errors="surrogateescape") as f:
        csv.writer(f).writerows(rows)
