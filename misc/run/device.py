"""The one place that knows device names: `--device` -> torch.device, and what a device likes."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import torch

from misc.errors import InputError

Given, Gives = TypeVar("Given"), TypeVar("Gives")


@dataclass(frozen=True)
class DeviceFacts:
    """What a kind of device likes. half: the type of autocast where it is faster and precise enough, else None;
    batch_size: images per forward, by what was measured; readers: threads that read ahead for it; backend: of
    torch.distributed between such devices; several: whether one machine has several, told apart by an index;
    spares_readers: whether it changes the colours of a batch itself, and is given large JPEGs decoded at part of their
    size, so that few threads keep up with it; its bytes are not the CPU's."""

    half: torch.dtype | None = None
    batch_size: int = 1
    readers: int = 1
    backend: str = "gloo"
    several: bool = False
    spares_readers: bool = False


_FACTS = {"cuda": DeviceFacts(torch.bfloat16, 8, 8, "nccl", several=True, spares_readers=True)}


def facts_of(device: torch.device) -> DeviceFacts:
    return _FACTS.get(device.type, DeviceFacts())


def pick_device(name: str) -> torch.device:
    """ "auto" takes CUDA, then Apple's MPS, then the CPU. A kind with several devices gives one with an index.

    Raises InputError for a device that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(1, device=name).device  # which has an index, where the kind has
    except (RuntimeError, AssertionError) as e:
        raise InputError(f"--device {name}: not usable here ({str(e).splitlines()[0]}); try --device auto") from e


def autocast(device: torch.device) -> AbstractContextManager:
    half = facts_of(device).half
    return torch.autocast(device.type, half or torch.bfloat16, enabled=half is not None)


def batch_size_for(device: torch.device, wanted: int) -> int:
    """Images per forward: wanted, or where that is 0 what the device likes."""
    return wanted or facts_of(device).batch_size


def in_turns(work: Callable[[Given], Gives], device: torch.device) -> Callable[[Given], Gives]:
    """work without gradients, for threads that take turns: a network needs the most memory, and has threads itself."""
    turn = threading.Lock()

    def one(given: Given) -> Gives:
        with turn, torch.inference_mode(), autocast(device):
            return work(given)

    return one
