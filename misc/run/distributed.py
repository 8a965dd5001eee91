"""Several processes that train one network, as `torchrun --nproc-per-node N run_sample.py ...` starts them."""

import atexit
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor


Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """rank: which of `count` processes this one is; local_rank: which of this machine's."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0


def launched() -> Processes:
    """What torchrun says of this process; the only one where nothing was said."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    return Processes(*(int(os.environ[name]) for name in names)) if all(n in os.environ for n in names) else Processes()


def is_main() -> bool:
    """Whether this process is the one that writes and talks."""
    return launched().rank == 0


def together(device: "torch.device") -> tuple[Processes, "torch.device"]:
    """-> the processes, which know each other from now on, and this one's device: where a machine has several, the one
    of its local rank."""
    import torch
    import torch.distributed as dist

    from misc.run.device import facts_of

    processes, facts = launched(), facts_of(device)
    if facts.several:
        if processes.count > 1:
            device = torch.device(device.type, processes.local_rank)
        torch.get_device_module(device).set_device(device)
    if processes.count > 1 and not dist.is_initialized():
        # the others wait while the first one makes maps, say; once, as a second group would find the first's addresses
        store, rank, count = next(dist.rendezvous("env://"))
        start = f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"  # or it would find the addresses of the dead
        store, most = dist.PrefixStore(start, store), timedelta(days=7)
        dist.init_process_group(facts.backend, timeout=most, store=store, rank=rank, world_size=count)
        atexit.register(dist.destroy_process_group)
    return processes, device


def wait_for_all(processes: Processes) -> None:
    if processes.count > 1:
        import torch.distributed as dist

        dist.barrier()


def from_all(index: "Tensor", values: "Tensor", rows: int) -> "tuple[Tensor, Tensor]":
    """index (N,), none negative, and values (N,...) of every process, N at most rows -> those of all processes, in the
    order of their ranks."""
    import torch
    import torch.distributed as dist

    if launched().count == 1:
        return index, values
    padded = index.new_full((rows,), -1), values.new_zeros(rows, *values.shape[1:])
    found = []
    for whole, part in zip(padded, (index, values), strict=True):
        whole[: len(part)] = part
        found.append([torch.empty_like(whole) for _ in range(launched().count)])
        dist.all_gather(found[-1], whole)
    everywhere, all_values = (torch.cat(parts) for parts in found)
    return everywhere[everywhere >= 0], all_values[everywhere >= 0]


def from_first(value: Value, device: "torch.device") -> Value:
    """What the first process has, for which the others wait: they skip what only it does."""
    if launched().count == 1:
        return value
    import torch.distributed as dist

    held = [value]
    dist.broadcast_object_list(held, device=together(device)[1])
    return held[0]
