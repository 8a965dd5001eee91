"""The one place that knows device names: `--device` -> torch.device, and what a device likes."""

import functools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from misc.errors import InputError, OutOfMemory
from misc.run.distributed import is_main, launched

Given, Gives = TypeVar("Given"), TypeVar("Gives")
_TF32, _TENSOR_CORES = (8, 0), (7, 0)  # compute capabilities: A100, RTX 30xx and later; V100, T4, RTX 20xx


@dataclass(frozen=True)
class DeviceFacts:
    """What a kind of device likes. batch_size: images per forward; readers: threads that read ahead for it; backend: of
    torch.distributed between such devices; several: whether one machine has several, told apart by an index.

    own_depthwise: PyTorch has kernels of its own for depthwise convolutions in contiguous tensors, which need no plan
    per shape; in channels_last cuDNN's are taken, whose plans took seconds per new shape (an H100, bfloat16).
    side_step: at inference the sides of pictures go by such steps (pgt.sizes.network_size), as there a network pays for
    every new shape; 0: exact sizes. refines: PAMR, the CRFs of labels and CRF maps, and the random walk run on
    it; elsewhere on the CPU's cores.
    mixed(device, wide): the type in which a network trains, None for float32 (training_type). spares_readers: it
    changes the colours of train_seam's and train_seg's batches itself, and is given large JPEGs decoded at part of
    their size, so that few threads keep up with it; its bytes are not the CPU's.
    """

    batch_size: int = 1
    readers: int = 1
    backend: str = "gloo"
    several: bool = False
    own_depthwise: bool = False
    side_step: int = 0
    refines: bool = False
    mixed: Callable[[torch.device, bool], torch.dtype | None] = lambda device, wide: None
    spares_readers: bool = False


def _mixed_on_cuda(device: torch.device, wide: bool) -> torch.dtype | None:
    """Measured on an H100, SEAM at 8 x 448 pixels: WideResNet-38 gains by bfloat16 (79 images/s; its published form in
    TF32 34), ResNet-50, whose steps are many small kernels, loses (92 against 126). Cards before TF32 are slow in
    float32 and know no bfloat16: they take float16, whose losses the training loop scales; still older ones have
    nothing faster."""
    capability = torch.cuda.get_device_capability(device)
    if capability >= _TF32:
        return torch.bfloat16 if wide else None
    return torch.float16 if capability >= _TENSOR_CORES else None


_FACTS = {
    "cuda": DeviceFacts(
        8, 8, "nccl", True, own_depthwise=True, side_step=64, refines=True, mixed=_mixed_on_cuda, spares_readers=True
    )
}


def facts_of(device: torch.device) -> DeviceFacts:
    return _FACTS.get(device.type, DeviceFacts())


def pick_device(name: str, deterministic: bool = False) -> torch.device:
    """ "auto" takes CUDA, then Apple's MPS, then the CPU, and says so. A kind with several devices gives one with an
    index. deterministic: the same bytes from run to run on CUDA too, where PyTorch can; it warns where it cannot.

    Raises InputError for a device that is not there.
    """
    try:
        device = torch.device(_auto() if name == "auto" else name)
        if device.index is None and facts_of(device).several and launched().count > 1:
            device = torch.device(device.type, launched().local_rank)
        device = torch.empty(1, device=device).device  # which has an index, where it may
    except (RuntimeError, AssertionError) as e:
        raise InputError(f"--device {name}: not usable here ({str(e).splitlines()[0]}); try --device auto") from e
    if facts_of(device).several:
        torch.set_float32_matmul_precision("high")  # TF32, where the card has it, as in its convolutions
        if deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True, warn_only=True)
    return device


def same_kind(device: torch.device) -> list[str]:
    """The names of all devices of its kind that are here; of a kind without several, none."""
    several = facts_of(device).several
    return [f"{device.type}:{i}" for i in range(torch.get_device_module(device).device_count())] if several else []


@functools.cache
def _auto() -> str:
    """The device that is taken, told of once per process."""
    name, why = "cpu", "no GPU that PyTorch can use"
    if torch.cuda.is_available():
        name, why = "cuda", torch.cuda.get_device_name()
    elif torch.backends.mps.is_available():
        name, why = "mps", "Apple's GPU; PAMR, CRFs and the random walk stay on the CPU"
    elif torch.version.cuda is None and torch.version.hip is None:
        why = "this PyTorch was built without CUDA"
    if is_main():
        print(f"device: {name} ({why})", flush=True)
    return name


def training_type(device: torch.device, wide: bool) -> torch.dtype | None:
    """The type of a training's forward passes where it is faster there and ends as well, None for float32. wide: the
    network's time is in large convolutions."""
    return facts_of(device).mixed(device, wide)


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager:
    """Forward passes in this type; in float32 where it is None."""
    return torch.autocast(device.type, dtype) if dtype is not None else nullcontext()


def memory_format(net: nn.Module, device: torch.device) -> torch.memory_format:
    """How the network's tensors lie in memory: channels_last, but for depthwise convolutions where that is slow."""
    depthwise = any(isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1 for m in net.modules())
    return torch.contiguous_format if depthwise and facts_of(device).own_depthwise else torch.channels_last


def batch_size_for(device: torch.device, wanted: int) -> int:
    """Images per forward: wanted, or where that is 0 what the device likes."""
    return wanted or facts_of(device).batch_size


def side_step_for(device: torch.device, wanted: int | None) -> int:
    """pgt.cam.network_size's step: wanted, or where that is None what the device likes."""
    return facts_of(device).side_step if wanted is None else wanted


def refines_on(device: torch.device) -> torch.device:
    """Where PAMR, the CRFs and the random walk run: on the device, or on the CPU."""
    return device if facts_of(device).refines else torch.device("cpu")


@contextmanager
def out_of_memory(remedy: str) -> Iterator[None]:
    """A device whose memory is too small raises OutOfMemory, with what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as e:
        said = str(e).partition("\n")[0]
        if not (isinstance(e, MemoryError) or any(words in said.lower() for words in _OUT_OF_MEMORY)):
            raise
        raise OutOfMemory(f"out of memory ({said[:200]}): {remedy}") from None


# of CUDA and MPS; of its libraries; of cuDNN, which finds no way that fits; of the CPU's allocator
_OUT_OF_MEMORY = (
    "out of memory", "status_alloc_failed", "unable to find an engine", "unable to find a valid cudnn algorithm",
    "can't allocate memory",
)  # fmt: skip


@contextmanager
def fixed_shapes(device: torch.device, deterministic: bool) -> Iterator[None]:
    """Within, shapes do not change: the fastest of cuDNN's ways is looked for once per shape."""
    searched = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = facts_of(device).several and not deterministic
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = searched


def in_turns(work: Callable[[Given], Gives], device: torch.device) -> Callable[[Given], Gives]:
    """work without gradients, for threads that take turns: a network needs the most memory, and has threads itself.

    On a device all turns are in one thread, as cuDNN keeps its plans by thread. Raises OutOfMemory where the device has
    too little.
    """
    turn = threading.Lock()

    def one(given: Given) -> Gives:
        with turn, torch.inference_mode(), out_of_memory("lower --max_side"):
            return work(given)

    if not facts_of(device).several:
        return one
    thread = ThreadPoolExecutor(1)
    return lambda given: thread.submit(one, given).result()
