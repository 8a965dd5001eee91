"""Pickles of arrays, and .npy files that hold them, read as data.

Pickles are programs that a reader runs. Here they are read by one that can do nothing but build dictionaries, lists,
numbers and arrays.
"""

import io
import math
import pickle
import re
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from misc.errors import one_line

_MOST_VALUES = 100_000  # in a pickle: arrays count as one


def read_npy(file: BinaryIO) -> np.ndarray | object:
    """The array in a .npy file; of a pickled one, what it holds, made of dict, list, tuple, numbers, text and arrays
    alone. Raises OSError for a file that is damaged or asks for anything else: it is not opened further."""
    try:
        shape, _, dtype = read_header(file)
        start = file.tell()
        if dtype.hasobject:
            return load_plain_pickle(file)
        if math.prod(shape) * dtype.itemsize > file.seek(0, 2) - start:
            raise ValueError(f"it declares {shape} {dtype}, more than it has")
        file.seek(0)
        return np.load(file, allow_pickle=False)
    except OSError:
        raise
    except Exception as e:  # whatever bytes of unknown origin lead to
        raise OSError(f"is no .npy file, or a damaged one ({one_line(e)})") from e


def read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Of a .npy: shape, whether it is in Fortran's order, type. Raises ValueError where it has none."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if min((0, *shape)) < 0:
        raise ValueError(f"an array of shape {shape}")
    return shape, fortran, dtype


def load_plain_pickle(file: BinaryIO) -> object:
    """What a pickle holds; raises OSError where that is more than plain data (see read_npy)."""
    try:
        return _plain(_PlainUnpickler(file).load(), iter(range(_MOST_VALUES)))
    except Exception as e:  # whatever bytes of unknown origin lead to: the file is at fault
        raise OSError(f"is no pickle of plain arrays ({type(e).__name__}: {one_line(e)})") from e


class _Array:
    """Stands for an array, or for its dtype, while a pickle is read: numpy's own ways of setting their state trust it.

    value: an array, or the one object or list that an object array holds.
    """

    __slots__ = ("code", "value")
    _NUMBERS = re.compile(r"[?biufc][0-9]{0,2}|b1")

    def __init__(self, code: str = ""):
        self.code, self.value = code, None

    def __setstate__(self, state: tuple) -> None:
        if self.code:  # a dtype: (version, byte order, ...)
            self.code = {">": ">", "<": "<"}.get(state[1], "") + self.code
            return
        _, shape, dtype, fortran, content = state
        if dtype.code.lstrip("<>") in ("O", "O8"):
            self.value = content[0] if shape == () else list(content)
        else:
            self.value = np.frombuffer(content, dtype.numbers()).reshape(shape, order="F" if fortran else "C")

    def numbers(self) -> np.dtype:
        if not self._NUMBERS.fullmatch(self.code.lstrip("<>")):
            raise pickle.UnpicklingError(f"array of {self.code!r}")
        return np.dtype(self.code)


class _PlainUnpickler(pickle._Unpickler):
    """Knows a few names, and gives its own functions for them: nothing that a file names is imported or called.

    Python's own, not the faster one in C: that makes as much room as the bytes ask for.
    """

    def _bytearray(self) -> None:
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    dispatch = {**pickle._Unpickler.dispatch, pickle.BYTEARRAY8[0]: _bytearray}  # noqa: RUF012

    def find_class(self, module: str, name: str) -> object:
        module = module.replace("numpy.core", "numpy._core")  # numpy 1 and 2
        known = {
            ("numpy", "ndarray"): "ndarray",  # a name is all that _reconstruct is given of it
            ("numpy", "dtype"): self._dtype,
            ("numpy._core.multiarray", "_reconstruct"): self._reconstruct,
            ("numpy._core.multiarray", "scalar"): self._scalar,
            ("numpy._core.numeric", "_frombuffer"): self._frombuffer,
            ("_codecs", "encode"): self._encode,
            ("collections", "OrderedDict"): self._dict,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch.storage", "_load_from_bytes"): self._storage,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"asks for {module}.{name}, which is not plain data")
        return known[module, name]

    def _dtype(self, code: str, *_: object) -> _Array:
        if not isinstance(code, str) or not code:
            raise pickle.UnpicklingError("dtype of no type")
        return _Array(code)

    def _reconstruct(self, *_: object) -> _Array:
        return _Array()

    def _scalar(self, dtype: _Array, content: bytes) -> int | float | complex | bool:
        return np.frombuffer(content, dtype.numbers(), count=1)[0].item()

    def _frombuffer(self, content: bytes, dtype: _Array, shape: tuple, order: str) -> _Array:
        array = _Array()
        array.value = np.frombuffer(content, dtype.numbers()).reshape(shape, order=order)
        return array

    def _encode(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"text as {encoding}")
        return text.encode("latin1")

    def _dict(self) -> dict:
        return {}

    def _storage(self, content: bytes) -> object:
        import torch

        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)

    def _tensor(self, storage: object, offset: int, size: tuple, stride: tuple, *_: object) -> np.ndarray:
        import torch

        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        # torch would make the storage larger, of anything; a stride of 0 would make much of little
        if min(0, *size, *stride) < 0 or max(last, math.prod(size) - 1) >= storage._size():
            raise pickle.UnpicklingError(f"tensor {size} of {storage._size()} numbers")
        return torch._utils._rebuild_tensor_v2(storage, offset, size, stride, False, {}).numpy()


def _plain(value: object, left: Iterator[int]) -> object:
    """left: one for each value that may still come: lists may hold each other many times over."""
    if next(left, None) is None:
        raise pickle.UnpicklingError(f"more than {_MOST_VALUES} values")
    if isinstance(value, _Array):
        return _plain(value.value, left)
    if isinstance(value, dict):
        return {key: _plain(item, left) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item, left) for item in value)
    return value
