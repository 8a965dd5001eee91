"""Boxes of the objects in images, as a csv tells them."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from misc.errors import InputError
from misc.files.listing import name_of
from misc.files.store import read_text


@dataclass(frozen=True)
class ImageBoxes:
    """xyxy (B,4) in pixels of a picture of this size (width, height); size None: of the map itself."""

    xyxy: np.ndarray
    size: tuple[float, float] | None = None

    def at(self, shape: tuple[int, int]) -> np.ndarray:
        """(B,4) in pixels of a map (H,W)."""
        if self.size is None:
            return self.xyxy
        return self.xyxy * np.tile(np.divide(shape[::-1], self.size), 2)


def read_boxes(path: Path) -> dict[str, ImageBoxes]:
    """Path without suffix -> boxes, from a csv with the columns file, x0, y0, x1, y1, a row per box. With the columns
    orig_w and orig_h, the size that the boxes are of, they follow maps of any other size.

    Raises InputError for a file that cannot be read, a column that is missing, and what is not a number.
    """
    rows: dict[str, list[list[float]]] = {}
    sizes: dict[str, tuple[float, float] | None] = {}
    line = 1
    try:
        text = read_text(path)
        apart = next((mark for mark in ",;\t" if f"file{mark}" in text.partition("\n")[0]), ",")
        for row in csv.DictReader(io.StringIO(text, newline=""), delimiter=apart):
            line += 1
            name = name_of(row["file"])
            rows.setdefault(name, []).append([float(row[c]) for c in ("x0", "y0", "x1", "y1")])
            sizes[name] = (float(row["orig_w"]), float(row["orig_h"])) if "orig_w" in row else None
    except OSError as e:
        raise InputError(f"{path}: cannot be read ({e.strerror or e})") from e
    except KeyError as e:
        raise InputError(f"{path}: no column {e}; the columns are file, x0, y0, x1, y1 (and orig_w, orig_h)") from e
    except (TypeError, ValueError) as e:
        raise InputError(f"{path}: line {line}: not all of it are numbers ({e})") from e
    if not rows:
        raise InputError(f"{path}: no box in it")
    return {name: ImageBoxes(np.array(boxes), sizes[name]) for name, boxes in rows.items()}
