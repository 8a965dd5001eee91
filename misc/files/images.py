"""Pictures on disk, each by what it is: a photograph as (H,W,3) uint8 RGB, a map or mask as one channel."""

import io
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from misc.errors import InputError, naming, one_line
from misc.files.contents import kind_of
from misc.files.held import require_regular
from misc.files.listing import HEIF, SUFFIXES, Listing, list_pictures, require_single

Image.MAX_IMAGE_PIXELS = None  # _require_plausible has the bounds
warnings.filterwarnings("ignore", module=r"PIL\.")  # of tags that are of no use here
for _reader in ("PIL", "tifffile"):  # a line per tag of a damaged file
    logging.getLogger(_reader).setLevel(logging.CRITICAL)
LARGEST = 1 << 28  # pixels: what a computer of 8 GB can label
_SURE = 1 << 26  # pixels that a file may have whatever its size: a blank picture takes next to no bytes
_PER_BYTE = 2000  # pixels that a byte of a larger one may stand for
_STRIP = 1 << 22  # pixels that are converted at once
if HEIF:
    import pillow_heif

    pillow_heif.register_heif_opener()


def find_images(folder: Path, flag: str) -> dict[str, Path]:
    """Path below folder, without suffix -> file of every picture (subfolders included), sorted.

    Raises InputError, with the flag's name, for an absent or empty folder, and for two files with one name: labels are
    named so.
    """
    return require_some(list_pictures(folder, flag), folder, flag)


def require_some(found: Listing, folder: Path, flag: str) -> dict[str, Path]:
    """Its files. Raises InputError where there are none, or two have one name."""
    if not found.files:
        raise InputError(f"{flag} {folder}: no picture in it ({', '.join(sorted(SUFFIXES))}){found.told()}")
    return require_single(found, flag)


@contextmanager
def opened(file: Path | BinaryIO) -> Iterator[Image.Image]:
    """The picture in a file; whatever a damaged or foreign one leads to, within too, is an OSError of one line."""
    try:
        with _open(file) as image:
            yield image
    except Exception as e:
        raise OSError(one_line(e)) from e


def _open(file: Path | BinaryIO) -> Image.Image:
    if isinstance(file, Path):
        require_regular(file)
        num_bytes = file.stat().st_size
    else:
        num_bytes = file.seek(0, 2)
        file.seek(0)
    try:
        image = Image.open(file)
    except UnidentifiedImageError:
        data = file.read_bytes() if isinstance(file, Path) else file.getvalue()
        if data[:4] not in (b"II*\0", b"MM\0*"):
            raise OSError(f"is no picture that can be read: it holds {kind_of(data)}") from None
        image = Image.fromarray(_scientific(data))
    _require_plausible(image.size, num_bytes)
    return image


def _require_plausible(size: tuple[int, ...], num_bytes: int) -> None:
    if not math.prod(size):
        raise OSError("has no pixels")
    if math.prod(size) > min(LARGEST, max(_SURE, _PER_BYTE * num_bytes)):
        raise OSError(f"declares {' x '.join(map(str, size))} pixels in {num_bytes} bytes: more than can be; scale it")


def _scientific(data: bytes) -> np.ndarray:
    """The first page of a TIFF that Pillow does not know -> (H,W) uint16 or float32, or (H,W,3) uint8."""
    import imageio.v3 as imageio  # scikit-image installs it

    _require_plausible(imageio.improps(io.BytesIO(data), plugin="tifffile", index=0).shape, len(data))
    page = np.asarray(imageio.imread(io.BytesIO(data), plugin="tifffile", index=0))
    if page.ndim == 3 and page.shape[0] in (3, 4) and page.shape[2] > 4:  # channel by channel
        page = np.moveaxis(page, 0, 2)
    if page.ndim == 3 and page.shape[2] in (3, 4):
        return to_8_bit(page[..., :3])
    if page.ndim != 2 or page.dtype.kind not in "uif":
        raise OSError(f"is a TIFF of {page.shape} {page.dtype}, which is neither gray nor RGB")
    return page if page.dtype in (np.uint8, np.uint16) else page.astype(np.float32)


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
        image.load()
        pixels = turned(_rgb(image), orientation_of(image))
    if isinstance(file, Path) and not reduced:
        _SIZES[_identity(file)] = pixels.shape[:2]
    return pixels


def _rgb(image: Image.Image) -> np.ndarray:
    if _is_deep(image):
        return np.repeat(to_8_bit(np.asarray(image))[..., None], 3, axis=2)
    rows = max(1, (_SURE if image.mode == "RGB" else _STRIP) // image.width)
    if image.height <= rows:
        return _strip(image)
    out = np.empty((image.height, image.width, 3), np.uint8)
    for y in range(0, image.height, rows):  # all at once a large one would be there three times
        out[y : y + rows] = _strip(image.crop((0, y, image.width, min(y + rows, image.height))))
    return out


def _strip(image: Image.Image) -> np.ndarray:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def orientation_of(image: Image.Image) -> int:
    """1 to 8, as EXIF numbers them; 1 where that cannot be read: all else of EXIF is not looked at."""
    try:
        number = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # half a dozen kinds for a block of other bytes
        return 1
    return number if number in range(2, 9) else 1


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """array (H,W,...) as an EXIF orientation says that it is to be seen."""
    if orientation == 1:
        return array
    array = np.swapaxes(array, 0, 1) if orientation >= 5 else array
    down, right = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(array[:: -1 if down else 1, :: -1 if right else 1])


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
                tags = getattr(image, "tag_v2", {})  # Pillow's size of a TIFF is that of the turned one
                size = max(1, int(tags.get(256, image.width))), max(1, int(tags.get(257, image.height)))
                _SIZES[key] = size if orientation_of(image) >= 5 else size[::-1]
        return _SIZES[key]
    except OSError:
        return 1, 1


def forget_sizes() -> None:
    """What image_size knows, before the next of many images."""
    _SIZES.clear()


def _identity(path: Path) -> tuple[str, int, int]:
    stat = path.stat()
    return str(path), stat.st_mtime_ns, stat.st_size


def _is_deep(image: Image.Image) -> bool:
    """Whether it has more than 8 bits per pixel, and no colours."""
    return image.mode.startswith("I") or image.mode == "F"


def to_8_bit(values: np.ndarray) -> np.ndarray:
    """Gray of more than 8 bits: whole numbers of 16 bits by their high byte, all else stretched over its own range."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite((low, high)).all():
        raise ValueError("has values that are not finite")
    if low >= 0 and high <= 65535:
        low, high = 0.0, next(top for top in (1.0, 255.0, 65535.0) if high <= top)
    out, rows = np.empty(values.shape, np.uint8), max(1, _STRIP // values[0].size)
    for y in range(0, len(values), rows):
        strip = values[y : y + rows].astype(np.float64)
        out[y : y + rows] = ((strip - low) / max(high - low, np.finfo(float).tiny) * 255).round()
    return out


def read_gray(file: Path | BinaryIO) -> np.ndarray:
    """-> (H,W) uint8 of a map, label or mask, by what the file is: gray as stored; colours that are gray; a palette or
    two colours, one of them black, as 0 and 255; the alpha of a cut-out.

    Raises OSError where the file is missing, corrupt or truncated, or may mean several things.
    """
    with opened(file) as image:
        image.load()
        return turned(_levels(image), orientation_of(image))


def read_levels(file: Path | BinaryIO) -> np.ndarray:
    """read_gray, where a gray file of 16 bits comes as it is: (H,W) uint16."""
    with opened(file) as image:
        if image.mode.startswith("I;16"):
            return turned(np.asarray(image).astype(np.uint16), orientation_of(image))
    return read_gray(file)


def read_mask(file: Path | BinaryIO) -> np.ndarray:
    """-> (H,W) bool of a mask file: above 128; above 0 in a file of two values, 0 and another. Raises OSError as
    read_gray does, and for a file of no such values."""
    gray = read_gray(file)
    if gray.max() > 128 or not gray.any():
        return gray > 128
    values = np.unique(gray).tolist()
    if len(values) > 2 or values[0]:
        if values == [1]:
            return gray > 0
        raise OSError(f"is no mask: its values are {', '.join(map(str, values[:8]))}; a mask is 0 and 255")
    return gray > 0


def _levels(image: Image.Image) -> np.ndarray:
    if _is_deep(image):
        return to_8_bit(np.asarray(image))
    if image.has_transparency_data and (found := _of_alpha(image)) is not None:
        return found
    if image.mode == "P":
        colours = np.asarray(image.convert("RGB"))
        return _of_colours(colours, image) if _is_gray(colours) else _of_two(np.asarray(image), "numbers")
    return (
        np.asarray(image.convert("L")) if image.mode in ("1", "L", "LA") else _of_colours(image.convert("RGB"), image)
    )


def _of_alpha(image: Image.Image) -> np.ndarray | None:
    """The alpha of a picture that is cut out by it, None where it says nothing."""
    rgba = np.asarray(image.convert("RGBA"))
    alpha, colours = rgba[..., 3], rgba[..., :3]
    if alpha.min() == 255:
        return None
    gray = colours.max(axis=2)
    if _is_gray(colours) and gray[alpha > 128].size and np.ptp(gray[alpha > 128]) > 8:
        raise OSError("is gray and has an alpha channel: which of the two is meant? save it without one")
    return alpha


def _of_colours(colours: np.ndarray | Image.Image, image: Image.Image) -> np.ndarray:
    colours = np.asarray(colours)
    if _is_gray(colours):
        return np.asarray(image.convert("L"))
    numbers = np.zeros(colours.shape[:2], np.int32)
    for channel in range(3):
        numbers = numbers << 8 | colours[..., channel]
    return _of_two(numbers, "colours")


def _is_gray(colours: np.ndarray) -> bool:
    """Up to what JPEG makes of gray."""
    return bool((np.ptp(colours, axis=2) <= 24).all())


def _of_two(numbers: np.ndarray, what: str) -> np.ndarray:
    """0 and another number -> 0 and 255."""
    values = np.unique(numbers)
    if len(values) > 2 or (len(values) == 2 and values[0]):
        raise OSError(f"holds {len(values)} {what}, and may mean several things; needed is gray, or black and a colour")
    return (numbers > 0) * np.uint8(255)


def at_size(cam: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """cam (h,w) uint8 at the size (H, W) of its image: smaller maps, as published code writes them, by bicubic.

    Raises ValueError where the two are of different shapes.
    """
    (h, w), (height, width) = cam.shape, size
    if abs(h - height * w / width) > 1 and abs(w - width * h / height) > 1:
        raise ValueError(f"is {w} x {h}, the image {width} x {height}: not of one shape (width x height)")
    if (h, w) == (height, width):
        return cam
    return np.asarray(Image.fromarray(cam).resize((width, height), Image.Resampling.BICUBIC))


def limit_side(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """(H, W) scaled down so that its long side is at most max_side; each side at least 1."""
    scale = min(1.0, max_side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def at_most(image: np.ndarray, max_side: int) -> np.ndarray:
    """image (H,W,...) uint8 itself, or where its long side is above max_side scaled down to that, by areas."""
    size = limit_side(image.shape[:2], max_side)
    return image if image.shape[:2] == size else cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
