"""Label maps as palette pictures, which is how PASCAL VOC keeps its masks."""

from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from misc.files.store import KEY, replacing


def voc_palette() -> np.ndarray:
    """(256,3) uint8 RGB of the PASCAL VOC devkit: the bits of a label, in turn, are the high bits of R, G, B."""
    label = np.arange(256)
    bits = [[(label >> (3 * i + channel) & 1) << (7 - i) for i in range(3)] for channel in range(3)]
    return np.array(bits).sum(axis=1).T.astype(np.uint8)


def write_mask(path: Path, label: np.ndarray, made_from: str = "") -> None:
    """Writes a label map (H,W) uint8 with VOC's palette, atomically; made_from: see misc/files/store.py."""
    picture = Image.fromarray(label)
    picture.putpalette(voc_palette().tobytes())  # and is a palette picture from here on
    info = PngInfo()
    info.add_text(KEY, made_from)
    with replacing(path) as part:
        picture.save(part, format="PNG", pnginfo=info, compress_level=3)


def has_fingerprint(path: Path) -> bool:
    """Whether this program wrote the picture."""
    with Image.open(path) as picture:
        return KEY in picture.info
