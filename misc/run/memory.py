"""Memory of tensors on a CPU: few page faults, and a peak that does not grow with the number of images.

A network takes and frees hundreds of MB a forward. glibc's defaults either hand them back to Linux each time, and the
page faults cost up to a fifth of the run, or keep them in a heap that images of ever other sizes tear into pieces.
"""

import ctypes
import os
import sys

_LARGE = 32 << 20  # bytes: larger blocks are mapped one by one and leave no hole behind


def settle_memory() -> None:
    """To be called before the first tensor. Huge pages make the large blocks cheap to map (PyTorch asks for them where
    this variable is set); the small ones stay in the heap. Does nothing where the C library is not glibc."""
    libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if libc and hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim"):
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
        libc.mallopt(-3, _LARGE)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD
