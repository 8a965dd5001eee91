"""Sizes of what networks see, and of their maps: plain numbers."""

from collections.abc import Sequence

import numpy as np

MIN_SIDE = 32  # a shorter side is stretched to this before the network: deep pooling needs something to pool


def quarter_size(size: Sequence[int]) -> tuple[int, int]:
    """(H, W) of an image -> (h, w) of its maps."""
    return (size[0] - 1) // 4 + 1, (size[1] - 1) // 4 + 1


def network_size(size: Sequence[int], scale: float, step: int = 0, least: int = MIN_SIDE) -> tuple[int, int]:
    """Size (H, W) of an image -> that of what the network sees of it at the scale; a side is at least `least`.

    step: sides are brought to its nearest multiple, and one pixel. So pictures of hundreds of sizes come in a few
    shapes, which is worth a stretch of up to half a step where a network pays for every new one (a GPU). The odd pixel,
    known from DeepLab's 321 and 513, puts the centres of cells evenly over the picture at every stride: without it all
    maps lie up to half a stride off (benchmarks/README.md).
    """
    if step:
        height, width = (int(np.round(max(1, round((side - 1) / step)) * step * scale)) + 1 for side in size)
    else:
        height, width = (int(np.round(side * scale)) for side in size)
    return max(least, height), max(least, width)
