"""Files that are whole or absent, and that know what they were made from.

Every PNG and NPZ written here carries a fingerprint of its input and of the settings behind it. A run that starts again
keeps a file whose fingerprint is the one it would write, and makes every other one anew: killed runs continue, and no
result of another image, network or flag is ever taken for this one's.
"""

import csv
import hashlib
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from misc.errors import InputError

KEY = "Fingerprint"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary name beside path; moved to path when the block ends well, removed when it does not.

    Raises InputError where the system does not let it be written (no space, no right).
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as e:
        if e.errno is None:  # not the file system's: a download's, say
            raise
        raise InputError(f"cannot write {path}: {e.strerror}; free space there, or choose another folder") from e
    finally:
        part.unlink(missing_ok=True) if part.parent.is_dir() else None


def require_writable(folder: Path) -> None:
    """Raises InputError where files cannot be made in folder (made if absent): before any work, not after it."""
    with replacing(folder / ".writable") as part:
        part.touch()
    (folder / ".writable").unlink()


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
    """Writes array ((H,W) or (H,W,3) uint8) to path, with the fingerprint made_from, atomically.

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
    """That of a PNG or NPZ, None where it has none or cannot be read. Reads that alone."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as npz:
                return str(npz[KEY.lower()])
        with Image.open(path) as image:
            return image.info.get(KEY)
    except (OSError, SyntaxError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def is_current(path: Path, made_from: str) -> bool:
    """Whether path is a PNG or NPZ with this fingerprint."""
    return fingerprint_of(path) == made_from


def write_npz(path: Path, made_from: str, **arrays: np.ndarray) -> None:
    """Writes arrays to path, compressed, with the fingerprint made_from, atomically."""
    with replacing(path) as part, part.open("wb") as f:
        np.savez_compressed(f, **arrays, **{KEY.lower(): np.array(made_from)})


def write_cams(path: Path, keys: np.ndarray, cam: np.ndarray, made_from: str = "") -> None:
    """keys (P,), cam (P,H,W) in [0,1] -> an .npz that misc/files/predictions.py reads: keys, cam uint8 and scale 1/255.

    A value is off by 1/510 at most; 0 and 1 are exact.
    """
    levels = np.rint(np.clip(cam, 0, 1) * np.float32(255)).astype(np.uint8)
    write_npz(path, made_from, keys=np.asarray(keys, np.uint8 if max(keys, default=0) < 256 else np.uint16), cam=levels,
              scale=np.float32(1 / 255))  # fmt: skip


def write_text(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict:
    """The JSON object at path; empty where there is none, or none that can be read."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def write_csv(path: Path, header: tuple[str, ...], rows: list[tuple]) -> None:
    with replacing(path) as part, part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as f:
        csv.writer(f).writerows([header, *rows])
