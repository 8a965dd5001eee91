"""COCO's run-length code of a mask, written and read."""

from collections.abc import Mapping

import numpy as np
from pycocotools import mask as coco


def rle_encode(mask: np.ndarray) -> dict[str, object]:
    """mask (H,W) bool -> COCO's compressed run-length code: {"size": [H, W], "counts": text}."""
    code = coco.encode(np.asfortranarray(mask, np.uint8))
    return {"size": code["size"], "counts": code["counts"].decode()}


def rle_decode(code: Mapping, shape: tuple[int, int]) -> np.ndarray:
    """The inverse -> mask (H,W) bool; counts may also be numbers: how many pixels are outside, inside, outside, ...

    Raises KeyError, TypeError or ValueError for a damaged code, or one of another shape: pycocotools takes such codes
    and reads beyond their ends, so this does not leave them to it.
    """
    counts = code["counts"]
    if isinstance(counts, str | bytes):
        counts = _counts_of(counts.encode("ascii") if isinstance(counts, str) else counts)
    counts = np.array(counts, np.int64)
    if list(code["size"]) != list(shape) or (counts < 0).any() or counts.sum() != shape[0] * shape[1]:
        raise ValueError(f"the run lengths are not those of {shape[1]}x{shape[0]} pixels")
    return np.repeat(np.arange(counts.size) % 2 > 0, counts).reshape(shape[::-1]).T


def _counts_of(text: bytes) -> list[int]:
    """Signed numbers, 5 bits per character, low bits first; bit 5 says that more follow, offset 48."""
    counts: list[int] = []
    value = shift = 0
    for code in text:
        bits = code - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)  # the sign, twice the weight of the highest bit
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts
