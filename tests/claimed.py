"""Tensors that claim to be on CUDA, on a machine without a GPU: what mixes devices fails as it would there.

PyTorch's FakeTensorMode does that without values; here the values are kept, on the CPU, so that whole commands run:
what asks a tensor for a number gets it, and a label is a label. float64 is refused, as MPS would. Forward passes alone:
autograd would ask for a driver.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda", 0)
_BETWEEN_DEVICES = {"_to_copy", "copy_"}
_INDEXED = {"index", "index_put", "index_put_"}  # a CPU's index of a tensor that is elsewhere is taken


class Claimed(torch.Tensor):
    """Values on the CPU under the name of another device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Claimed":
        if held.dtype == torch.float64:
            raise TypeError("float64 on a device: it is slow on CUDA, and MPS has none")
        shape = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = Tensor._make_wrapper_subclass(cls, held.shape, device=CUDA, **shape)
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Sequence = (), kwargs: Mapping | None = None) -> Any:
        return _run(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence = (), kwargs: Mapping | None = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Sequence, kwargs: Mapping) -> Any:
    kind = func.overloadpacket.__name__
    asked = kwargs.get("device")
    tensors = [
        t for t in tree_leaves((args[:1] + args[2:] if kind in _INDEXED else args, kwargs)) if isinstance(t, Tensor)
    ]
    claimed = [isinstance(t, Claimed) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    here = [isinstance(t, Claimed) for t in tensors if t.dim() or isinstance(t, Claimed)]  # a CPU's number is taken
    mixed = len({*here}) > 1 or (kind in _INDEXED and any(claimed) and not all(here))
    if mixed and kind not in _BETWEEN_DEVICES:
        raise RuntimeError(f"Expected all tensors to be on the same device, but {func} got some on cuda:0, some on cpu")
    there = any(claimed) if asked is None else torch.device(asked).type == "cuda"
    if asked is not None:
        kwargs = {**kwargs, "device": torch.device("cpu"), **({"pin_memory": False} if "pin_memory" in kwargs else {})}
    held = func(*tree_map(_held, args), **tree_map(_held, kwargs))
    if kind == "copy_":
        return args[0]
    out = tree_map(lambda t: Claimed(t) if isinstance(t, Tensor) and there else t, held)
    return return_and_correct_aliasing(func, args, kwargs, out) if there and any(claimed) and asked is None else out


def _held(value: Any) -> Any:
    return value.held if isinstance(value, Claimed) else value


_plain_submit = ThreadPoolExecutor.submit


def _submit(pool: ThreadPoolExecutor, fn: Any, *args: Any, **kwargs: Any) -> Any:
    def claiming() -> Any:
        torch._C._set_only_lift_cpu_tensors(True)  # of this thread
        with _Mode():
            return fn(*args, **kwargs)

    return _plain_submit(pool, claiming)


@contextmanager
def claiming_cuda() -> Iterator[torch.device]:
    """Within, what asks for CUDA gets tensors that claim to be there, in this thread and those that pools start."""
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    precision = torch.get_float32_matmul_precision()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    start, torch.cuda._lazy_init = torch.cuda._lazy_init, lambda: None
    submit, ThreadPoolExecutor.submit = ThreadPoolExecutor.submit, _submit  # threads claim as well
    torch._C._ensureCUDADeviceGuardSet()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) is made on the CPU, and brought there
    try:
        with _Mode(), torch.backends.cudnn.flags(enabled=False):  # whose kernels the CPU lacks
            yield CUDA
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
        torch.cuda._lazy_init, ThreadPoolExecutor.submit = start, submit
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
        torch.set_float32_matmul_precision(precision)
