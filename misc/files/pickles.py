"""Pickles of arrays, and .npy files that hold them, read as data.

Pickles are programs that a reader runs. Here they are read by one that can do nothing but build dictionaries, lists,
numbers and arrays.
"""

import io
import pickle
import re
from typing import BinaryIO

import numpy as np


def read_npy(file: BinaryIO) -> np.ndarray | object:
    """The array in a .npy file; of a pickled one, what it holds, made of dict, list, tuple, numbers, text and arrays
    alone. Raises OSError for a file that is damaged or asks for anything else: it is not opened further."""
    try:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        _, _, dtype = header(file)
        if dtype.hasobject:
            return load_plain_pickle(file)
        file.seek(0)
        return np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as e:
        raise OSError(f"is no .npy file, or a damaged one ({e})") from e


def load_plain_pickle(file: BinaryIO) -> object:
    """What a pickle holds; raises OSError where that is more than plain data (see read_npy)."""
    try:
        return _plain(_PlainUnpickler(file).load())
    except Exception as e:  # whatever bytes of unknown origin lead to: the file is at fault
        raise OSError(f"is no pickle of plain arrays ({type(e).__name__}: {e})") from e


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


class _PlainUnpickler(pickle.Unpickler):
    """Knows a few names, and gives its own functions for them: nothing that a file names is imported or called."""

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
        if min(0, *size, *stride) < 0 or last >= storage._size():  # torch would make the storage larger, of anything
            raise pickle.UnpicklingError(f"tensor {size} of {storage._size()} numbers")
        return torch._utils._rebuild_tensor_v2(storage, offset, size, stride, False, {}).numpy()


def _plain(value: object) -> object:
    if isinstance(value, _Array):
        return _plain(value.value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    return value
