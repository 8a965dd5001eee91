"""Pictures on disk: which files of a folder are pictures, and any of them as an (H,W,3) uint8 RGB array."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps

from misc.errors import InputError, naming

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"))


def find_images(folder: Path, flag: str) -> dict[str, Path]:
    """stem -> file of every picture below folder (subfolders included), sorted by stem.

    Raises InputError, with the flag's name, for an absent or empty folder, and for two files with one stem: labels are
    named by stems.
    """
    if not folder.is_dir():
        raise InputError(f"{flag} {folder}: no such folder")
    found: dict[str, Path] = {}
    try:
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
            if any(part.startswith(".") for part in path.relative_to(folder).parts):
                continue
            twin = found.setdefault(os.path.normcase(path.stem), path)
            if twin is not path:
                raise InputError(f"{flag}: {twin} and {path} have one stem and would share a label; rename one of them")
    except OSError as e:
        raise InputError(f"{flag} {folder}: cannot be read ({e.strerror})") from e
    if not found:
        raise InputError(f"{flag} {folder}: no picture in it ({', '.join(sorted(SUFFIXES))})")
    return dict(sorted((path.stem, path) for path in found.values()))


@contextmanager
def opened(file: Path | BinaryIO) -> Iterator[Image.Image]:
    """The picture in a file; whatever a damaged or foreign one leads to, within too, is an OSError of one line."""
    try:
        with Image.open(file) as image:
            yield image
    except (OSError, SyntaxError, ValueError, EOFError, TypeError, Image.DecompressionBombError) as e:
        raise OSError(str(e).partition("\n")[0] or type(e).__name__) from e


def read_image(file: Path | BinaryIO, side: int = 0) -> np.ndarray:
    """-> (H,W,3) uint8 RGB as a viewer shows it: turned by its EXIF orientation, transparent parts over white.

    Gray, palette, CMYK and 16-bit pictures are converted. side: the long side that is wanted of it; a JPEG that is
    large enough comes at 1/2, 1/4 or 1/8 of its size, at least twice that side; 0: as it is. Raises OSError where the
    file is corrupt or truncated.
    """
    with opened(file) as image:
        whole = image.size
        if side:
            image.draft(None, tuple(max(1, 2 * side * n // max(whole)) for n in whole))
        reduced = image.size != whole
        ImageOps.exif_transpose(image, in_place=True)
        if isinstance(file, Path) and not reduced:
            _SIZES[_identity(file)] = image.size[::-1]
        if _is_deep(image):
            return np.repeat(_to_8_bit(np.asarray(image))[..., None], 3, axis=2)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def read_named(path: Path, side: int = 0) -> np.ndarray:
    """read_image, whose OSError names the file."""
    with naming(path):
        return read_image(path, side)


_SIZES: dict[tuple[str, int, int], tuple[int, int]] = {}  # of files that were opened, as long as they do not change


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) that read_image will give, from the file's header alone; (1, 1) where that cannot be read.

    A file is opened once per process: passes that ask again, or after it was read, are told from memory.
    """
    try:
        key = _identity(path)
        if key not in _SIZES:
            with opened(path) as image:
                turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
                _SIZES[key] = image.size if turned else image.size[::-1]
        return _SIZES[key]
    except OSError:
        return 1, 1


def _identity(path: Path) -> tuple[str, int, int]:
    stat = path.stat()
    return str(path), stat.st_mtime_ns, stat.st_size


def _is_deep(image: Image.Image) -> bool:
    """Whether it has more than 8 bits per pixel, and no colours."""
    return image.mode.startswith("I") or image.mode == "F"


def _to_8_bit(values: np.ndarray) -> np.ndarray:
    """Gray of more than 8 bits: whole numbers of 16 bits by their high byte, all else stretched over its own range."""
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("has values that are not finite")
    low, high = values.min(), values.max()
    if low >= 0 and high <= 65535:
        low, high = 0.0, next(top for top in (1.0, 255.0, 65535.0) if high <= top)
    return ((values - low) / max(high - low, np.finfo(float).tiny) * 255).round().astype(np.uint8)


def read_gray(file: Path | BinaryIO) -> np.ndarray:
    """-> (H,W) uint8 of a map or mask, as stored (colour is averaged to luma; nothing is turned).

    Raises OSError where the file is missing, corrupt or truncated.
    """
    with opened(file) as image:
        return _to_8_bit(np.asarray(image)) if _is_deep(image) else np.asarray(image.convert("L"))


def read_mask(file: Path | BinaryIO) -> np.ndarray:
    """-> (H,W) bool of a mask file: above 128, or above 0 in a file of 0 and 1. Raises OSError as read_gray does."""
    gray = read_gray(file)
    return gray > (128 if gray.max() > 1 else 0)


def limit_side(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """(H, W) scaled down so that its long side is at most max_side; each side at least 1."""
    scale = min(1.0, max_side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def at_most(image: np.ndarray, max_side: int) -> np.ndarray:
    """image (H,W,...) uint8 itself, or where its long side is above max_side scaled down to that, by areas."""
    size = limit_side(image.shape[:2], max_side)
    return image if image.shape[:2] == size else cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
