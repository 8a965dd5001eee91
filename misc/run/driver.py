"""Whether a device may be here on which labels are refined, told without PyTorch, which takes seconds to load."""

import ctypes
import os

_DRIVER = "nvcuda.dll" if os.name == "nt" else "libcuda.so.1"


def may_refine(name: str) -> bool:
    """name: what --device says. Where it is "auto", only the driver of such a device speaks for it."""
    if name != "auto":
        return name != "cpu"
    try:
        ctypes.CDLL(_DRIVER)
    except OSError:
        return False
    return True
