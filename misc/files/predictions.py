"""Readers of what any project wrote: label maps, and CAMs of the present classes.

    .png .bmp .tif   a label map: palette or gray, values as stored
    .npy             a label map; or, pickled as IRN, SEAM and HFPL do, {class: cam} or {"keys", "cam", "high_res"}
    .npz             CAMs: arrays keys (P,) and high_res or cam (P,H,W), times the number scale where there is one; or
                     an array a class, named by its number

Pickles are programs that a reader runs. Here they are read by one that can do nothing but build dictionaries, lists,
numbers and arrays.
"""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from misc.errors import InputError
from misc.files.held import Held

SUFFIXES = (".png", ".npz", ".npy", ".bmp", ".tif", ".tiff")
# label of key 0. IRN's, SEAM's and HFPL's CAMs count the foreground classes from 0; HFPL's CRF maps hold the background
FIRST_LABEL = {"foreground": 1, "label": 0}


@dataclass(frozen=True)
class Cams:
    """labels (P,) ascending int64; scores (P,H,W) float32. P may be 0: an image without a class, of size (0,0)."""

    labels: np.ndarray
    scores: np.ndarray

    @property
    def has_background(self) -> bool:
        return bool(self.labels.size) and self.labels[0] == 0

    def label_map(self, bg_score: float) -> np.ndarray:
        """(H,W) int64: arg-max of the background's score (its own map where it has one) and the classes', the first of
        equals, in float32."""
        scores, labels = self.scores, self.labels
        if not self.has_background:
            background = np.full((1, *scores.shape[1:]), bg_score, np.float32)
            scores, labels = np.concatenate([background, scores]), np.append(0, labels)
        return labels[scores.argmax(axis=0)]


def find_prediction(folder: Path, stem: str) -> Path | None:
    """folder/stem with one of the known suffixes. Raises InputError where there are two."""
    found = [path for suffix in SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()]
    if len(found) > 1:
        raise InputError(f"{found[0]} and {found[1]} are of one image; take one of them away")
    return found[0] if found else None


def read_prediction(file: Path | Held, keys: str = "foreground") -> np.ndarray | Cams:
    """-> label map (H,W) of integers, or Cams. keys: what key 0 of CAMs is, the first class ("foreground") or the
    background ("label"). Raises OSError, with the reason, for a file that is missing, damaged, or holds something else.
    """
    file = file if isinstance(file, Held) else Held(file)
    suffix = file.path.suffix
    if suffix not in (".npy", ".npz"):
        return read_label(file)
    try:
        held = _read_npz(file) if suffix == ".npz" else read_npy(file)
        if isinstance(held, Mapping):
            return _to_cams(held, FIRST_LABEL[keys])
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as e:
        raise OSError(f"holds no label map or CAMs ({e})") from e
    if not isinstance(held, np.ndarray) or held.ndim != 2 or held.dtype.kind not in "uib":
        raise OSError("holds neither labels, integers (H,W), nor CAMs by class")
    return held


def read_cams(file: Path | Held, size: tuple[int, int], keys: str = "foreground") -> Cams:
    """The CAMs of an image of this size (H, W): of one without a class, maps (0,H,W).

    Raises OSError, which names the file, for one that holds something else or is of another size.
    """
    path = file.path if isinstance(file, Held) else file
    try:
        cams = read_prediction(file, keys)
    except OSError as e:
        raise OSError(f"its maps {path} cannot be read: {e}") from e
    if not isinstance(cams, Cams):
        raise OSError(f"its maps {path}: are a label map")
    if not cams.labels.size:
        return Cams(cams.labels, np.zeros((0, *size), np.float32))
    if cams.scores.shape[1:] != size:
        raise OSError(f"its maps {path} are {cams.scores.shape[:0:-1]}, the image {size[::-1]} (width, height)")
    return cams


def read_label(file: Path | BinaryIO) -> np.ndarray:
    """-> (H,W) integers of a palette or gray picture, as stored. Raises OSError for colours and damaged files."""
    try:
        with Image.open(file) as image:
            if image.mode not in ("P", "L", "1") and not image.mode.startswith("I"):
                raise OSError(f"is a picture of mode {image.mode}; labels are palette or gray")
            return np.asarray(image).astype(np.int32 if image.mode.startswith("I") else np.uint8)
    except (SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as e:
        raise OSError(str(e) or type(e).__name__) from e


def _read_npz(file: BinaryIO) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as npz:
        return {name: npz[name] for name in npz.files}


def _to_cams(held: Mapping, first_label: int) -> Cams:
    if "keys" in held:
        keys, maps = np.asarray(held["keys"]).reshape(-1), held.get("high_res", held.get("cam"))
    else:
        keys, maps = np.array([int(key) for key in held], np.int64), list(held.values())
    scores = np.asarray(maps, np.float32)
    if "keys" in held and "scale" in held:
        scores *= np.float32(held["scale"])
    if not keys.size:
        return Cams(np.zeros(0, np.int64), np.zeros((0, 0, 0), np.float32))
    if scores.ndim != 3 or len(scores) != keys.size or keys.dtype.kind not in "ui" or np.unique(keys).size < keys.size:
        raise ValueError(f"{keys.size} keys, and maps {scores.shape}")
    order = np.argsort(keys)
    return Cams(keys[order].astype(np.int64) + first_label, scores[order])


def read_npy(file: BinaryIO) -> np.ndarray | object:
    """The array in a .npy file; of a pickled one, what it holds, made of dict, list, tuple, numbers, text and arrays
    alone. Raises OSError for a file that is damaged or asks for anything else: it is not opened further."""
    try:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        _, _, dtype = header(file)
    except ValueError as e:
        raise OSError(f"is no .npy file ({e})") from e
    if dtype.hasobject:
        return load_plain_pickle(file)
    file.seek(0)
    try:
        return np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as e:
        raise OSError(f"is damaged ({e})") from e


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
