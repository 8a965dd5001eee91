"""Label maps as palette pictures, which is how PASCAL VOC keeps its masks."""

from pathlib import Path

import numpy as np

from misc.files.store import write_png


def voc_palette() -> np.ndarray:
    """(256,3) uint8 RGB of the PASCAL VOC devkit: the bits of a label, in turn, are the high bits of R, G, B."""
    label = np.arange(256)
    bits = [[(label >> (3 * i + channel) & 1) << (7 - i) for i in range(3)] for channel in range(3)]
    return np.array(bits).sum(axis=1).T.astype(np.uint8)


def write_mask(path: Path, label: np.ndarray, made_from: str = "") -> None:
    """Writes a label map (H,W) uint8 with VOC's palette, atomically; made_from: see misc/files/store.py."""
    write_png(path, label, made_from, voc_palette())
