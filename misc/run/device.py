"""The one place that knows device names: `--device` -> torch.device, and what a device likes."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

import torch

from misc.errors import InputError

Given, Gives = TypeVar("Given"), TypeVar("Gives")


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


def batch_size_for(device: torch.device, wanted: int) -> int:
    """Images per forward: wanted, or by what was measured where wanted is 0: one on CPU, where more is slower."""
    return wanted or (8 if device.type == "cuda" else 1)


def in_turns(work: Callable[[Given], Gives], device: torch.device) -> Callable[[Given], Gives]:
    """work without gradients, for threads that take turns: a network needs the most memory, and has threads itself."""
    turn = threading.Lock()

    def one(given: Given) -> Gives:
        with turn, torch.inference_mode(), autocast(device):
            return work(given)

    return one
