"""Readers of what any project wrote: label maps, and CAMs of the present classes.

.png .bmp .tif   a label map: palette or gray, values as stored
.npy             a label map; or, pickled as IRN, SEAM and HFPL do, {class: cam} or {"keys", "cam", "high_res"}
.npz             CAMs: arrays keys (P,) and high_res, attn_highres (CLIP-ES) or cam (P,H,W), times the number scale
                 where there is one; or an array per class, named by its number

No size that a file declares is believed before it is compared with what the file has, and with its image.
"""

import math
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from misc.errors import one_line
from misc.files.held import Held
from misc.files.images import opened, orientation_of, turned
from misc.files.listing import ARRAYS, SUFFIXES, Listing, list_pictures, matched, require_single
from misc.files.pickles import read_header, read_npy

Size = tuple[int, int]
_MOST = 1 << 30  # bytes of the maps of an image
_PER_PIXEL = 1024  # of one whose size is known: 128 maps of 8 bytes
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


def find_predictions(folder: Path, names: Iterable[str], flag: str = "") -> dict[str, Path]:
    """name -> its file below folder, a picture or array of any suffix, or in folder itself, see matched; those that
    have none are left out. Raises InputError where one has two."""
    found, names = list_pictures(folder, flag, SUFFIXES | ARRAYS) if folder.is_dir() else Listing(), set(names)
    own = matched(names, {name: path for name, path in found.files.items() if name in names or "/" not in name})
    wanted = set(own.values())
    require_single(Listing(own, {name: twins for name, twins in found.twins.items() if twins[0] in wanted}), flag)
    return own


def read_prediction(file: Path | Held, keys: str = "foreground", size: Size | None = None) -> np.ndarray | Cams:
    """-> label map (H,W) of integers, or Cams. keys: what key 0 of CAMs is, the first class ("foreground") or the
    background ("label"); size: that of its image, where it is known, which bounds what is read. Raises OSError, with
    the reason, for a file that is missing, damaged, or holds something else.
    """
    file = file if isinstance(file, Held) else Held(file)
    suffix = file.path.suffix.lower()
    if suffix not in ARRAYS:
        return read_label(file)
    try:
        held = _read_npz(file, size) if suffix == ".npz" else read_npy(file)
        if isinstance(held, Mapping):
            return _to_cams(held, FIRST_LABEL[keys])
    except Exception as e:  # whatever a damaged file leads to
        raise OSError(f"holds no label map or CAMs ({one_line(e)})") from e
    if not isinstance(held, np.ndarray) or held.ndim != 2 or held.dtype.kind not in "uib":
        raise OSError("holds neither labels, integers (H,W), nor CAMs by class")
    return held


def _read_npz(file: Held, size: Size | None) -> dict[str, np.ndarray]:
    left = min(_MOST, _PER_PIXEL * math.prod(size) + (1 << 20)) if size else _MOST
    with zipfile.ZipFile(file) as held:
        for member in held.infolist():
            with held.open(member) as f:
                shape, _, dtype = read_header(f)
            wanted = math.prod(shape) * dtype.itemsize
            left -= wanted
            if left < 0 or wanted > member.file_size:
                raise ValueError(f"{member.filename} declares {shape} {dtype}, more than can be")
    file.seek(0)
    return dict(np.load(file, allow_pickle=False))


def read_cams(file: Path | Held, size: Size, keys: str = "foreground") -> Cams:
    """The CAMs of an image of this size (H, W): of one without a class, maps (0,H,W).

    Raises OSError, which names the file, for one that holds something else or is of another size.
    """
    path = file.path if isinstance(file, Held) else file
    try:
        cams = read_prediction(file, keys, size)
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
    """-> (H,W) integers of a palette or gray picture, as stored, turned where it has an EXIF orientation of its own.

    Raises OSError for colours, JPEGs, which change numbers, and damaged files.
    """
    with opened(file) as image:
        if image.format in ("JPEG", "MPO"):
            raise OSError("is a JPEG, which does not keep labels; save them as PNG")
        if image.mode not in ("P", "L", "1") and not image.mode.startswith("I"):
            raise OSError(f"is a picture of mode {image.mode}; labels are palette or gray")
        label = np.asarray(image).astype(np.int32 if image.mode.startswith("I") else np.uint8)
        return turned(label, orientation_of(image))


def _to_cams(held: Mapping, first_label: int) -> Cams:
    if "keys" in held:
        keys = np.asarray(held["keys"]).reshape(-1)
        maps = next((held[name] for name in ("high_res", "attn_highres", "cam") if name in held), None)
    else:
        keys, maps = np.array([int(key) for key in held], np.int64), list(held.values())
    scores = np.asarray(maps, np.float32) * np.float32(held.get("scale", 1))
    if not keys.size:
        return Cams(np.zeros(0, np.int64), np.zeros((0, 0, 0), np.float32))
    if scores.ndim != 3 or len(scores) != keys.size or keys.dtype.kind not in "ui" or np.unique(keys).size < keys.size:
        raise ValueError(f"{keys.size} keys, and maps {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("maps with values that are not finite")
    order = np.argsort(keys)
    return Cams(keys[order].astype(np.int64) + first_label, scores[order])
