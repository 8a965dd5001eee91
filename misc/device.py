"""The one place that knows device names: `--device` -> torch.device, and what a device likes."""

import ctypes
import sys
from contextlib import AbstractContextManager

import torch

from misc.errors import InputError


def pick_device(name: str) -> torch.device:
    """ "auto" takes CUDA, then Apple's MPS, then the CPU. Raises InputError for a device that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as e:
        raise InputError(f"--device {name}: not usable here ({str(e).splitlines()[0]}); try --device auto") from e
    return device


def autocast(device: torch.device) -> AbstractContextManager:
    """bfloat16 where it is faster and precise enough (CUDA), float32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def keep_freed_memory() -> None:
    """Lets glibc keep the memory of freed tensors for the next ones instead of giving it back to Linux page by page.

    A network frees and takes hundreds of MB a forward, and the page faults cost up to a fifth of its time on a CPU
    (benchmarks/make_cam.py). Does nothing on other systems.
    """
    if libc := _glibc():
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD


def return_freed_memory() -> None:
    """Gives it all back once: kept memory of tensors of many sizes would pile up with the number of images."""
    if libc := _glibc():
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    return libc if libc and hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def batch_size_for(device: torch.device, wanted: int) -> int:
    """Images per forward: wanted, or by what was measured where wanted is 0: one on CPU, where more is slower."""
    return wanted or (8 if device.type == "cuda" else 1)
