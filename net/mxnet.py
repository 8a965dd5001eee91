"""Reads MXNet's `.params` files without MXNet.

The format (MXNet, src/ndarray/ndarray.cc, little-endian): uint64 0x112, uint64 0, uint64 count, the arrays; uint64
count of names (as many, or none), each uint64 length and bytes. An array opens with a magic number, or in the oldest
files with its number of dimensions.
"""

import math
import mmap
import struct
from pathlib import Path

import numpy as np

from misc.errors import InputError

_LIST_MAGIC = 0x112
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_DTYPES = ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8")
_MAX_DIMS = 32  # numpy's limit before version 2; more is damage


def read_params(path: Path) -> dict[str, np.ndarray]:
    """A `.params` file -> its arrays by name (`arg:conv1a_weight`); a list without names gets "0", "1", ...

    Raises InputError with one line if the file is missing, truncated, damaged, or holds sparse arrays. No length in the
    file is believed before it is compared with what the file has left.
    """
    try:
        with Path(path).open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as held:
            return _Reader(held).read_list()
    except OSError as e:
        raise InputError(f"{path} cannot be read ({e.strerror or e})") from e
    except ValueError as e:  # also mmap's, of an empty file
        raise InputError(f"{path} is no MXNet parameter file, or is damaged: {e}") from e


class _Reader:
    """A position in a file that never goes beyond its end. Every method raises ValueError for what cannot be so."""

    def __init__(self, held: mmap.mmap):
        self.held, self.at = held, 0

    def take(self, length: int) -> bytes:
        if length > len(self.held) - self.at:
            raise ValueError(f"it ends {len(self.held) - self.at} bytes after byte {self.at}, where {length} should be")
        self.at += length
        return self.held[self.at - length : self.at]

    def numbers(self, kind: str, count: int = 1) -> tuple[int, ...]:
        return struct.unpack(f"<{count}{kind}", self.take(count * struct.calcsize(f"<{kind}")))

    def number(self, kind: str) -> int:
        return self.numbers(kind)[0]

    def read_list(self) -> dict[str, np.ndarray]:
        if self.number("Q") != _LIST_MAGIC:
            raise ValueError("it does not begin as one")
        self.number("Q")  # reserved
        arrays = [self.read_array() for _ in range(self.number("Q"))]
        names = [self.take(self.number("Q")).decode() for _ in range(self.number("Q"))]
        names = names or [str(i) for i in range(len(arrays))]
        if len(set(names)) != len(arrays):
            raise ValueError(f"it holds {len(arrays)} arrays under {len(set(names))} names")
        if self.at != len(self.held):
            raise ValueError(f"{len(self.held) - self.at} bytes follow its end")
        return dict(zip(names, arrays, strict=True))

    def read_array(self) -> np.ndarray:
        magic = self.number("I")
        if magic in (_V2, _V3) and (storage := self.number("i")) != 0:
            raise ValueError(f"an array is sparse (storage type {storage})")
        modern = magic in (_V1, _V2, _V3)
        shape = self.read_shape(self.number("i") if modern else magic, "q" if modern else "I")
        if not shape and magic != _V3:
            raise ValueError("an array has no value")
        self.numbers("i", 2)  # device type and number
        code = self.number("i")
        if not 0 <= code < len(_DTYPES):
            raise ValueError(f"an array has the unknown data type {code}")
        dtype = np.dtype(_DTYPES[code])
        return np.frombuffer(self.take(math.prod(shape) * dtype.itemsize), dtype).reshape(shape).copy()

    def read_shape(self, dims: int, kind: str) -> tuple[int, ...]:
        if not 0 <= dims <= _MAX_DIMS:
            raise ValueError(f"an array has {dims} dimensions")
        shape = self.numbers(kind, dims)
        if any(not 0 <= n <= len(self.held) for n in shape):
            raise ValueError(f"an array has the shape {shape}")
        return shape
