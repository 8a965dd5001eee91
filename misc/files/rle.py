"""COCO's compressed run-length code of a mask, written and read."""

import numpy as np


def rle_encode(mask: np.ndarray) -> dict[str, object]:
    """mask (H,W) bool -> COCO's compressed run-length code: {"size": [H, W], "counts": text}."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]]))
    counts = [0, *runs.tolist()] if flat[0] else runs.tolist()  # the first run is of background
    deltas = counts[:3] + [count - before for count, before in zip(counts[3:], counts[1:], strict=False)]
    return {"size": list(mask.shape), "counts": "".join(map(_to_text, deltas))}


def _to_text(value: int) -> str:
    """A signed number, 5 bits per character, low bits first; bit 5 says that more follow, offset 48."""
    text = ""
    while True:
        bits, value = value & 31, value >> 5
        done = value == (-1 if bits & 16 else 0)
        text += chr(48 + (bits if done else bits | 32))
        if done:
            return text


def decode_counts(text: str) -> list[int]:
    """The inverse of rle_encode's text: how many pixels are outside, inside, outside, ..."""
    counts: list[int] = []
    value = shift = 0
    for code in text.encode("ascii"):
        bits = code - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) << (shift - 4)  # the sign, twice the weight of the highest bit
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts
