"""RESULT_DIR/scores: what the evaluators found, for the report to show and for anyone to read.

<kind>.csv          a row per image: image, digest (of the bytes of its label and its mask), scores from 0 to 1; and
                    split, of sets that have parts
<kind>_curves.csv   a row per threshold: precision, recall and f, means over the images
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from misc.files.held import Held
from misc.files.store import fingerprint, write_csv

CURVES = ("precision", "recall", "f")
_WORDS = ("split", "image", "digest")


def digest_of(label: Held, mask: Held) -> str:
    """Of what is scored: a row with another digest is of a label or mask that is no more."""
    return fingerprint(label.getvalue(), mask.getvalue())


def write_scores(folder: Path, kind: str, header: tuple[str, ...], rows: list[tuple]) -> None:
    write_csv(folder / f"{kind}.csv", header, rows)


def read_scores(folder: Path, kind: str) -> dict[tuple[str, str], dict[str, float]]:
    """(image, digest) -> its scores; empty where there is no such file."""
    rows = _read(folder / f"{kind}.csv")
    return {
        (row["image"], row["digest"]): {name: float(value) for name, value in row.items() if name not in _WORDS}
        for row in rows
    }


def write_curves(folder: Path, kind: str, curves: Mapping[str, np.ndarray]) -> None:
    """curves: each of CURVES -> values at the thresholds 255, 254, ..., 0; or nothing, where nothing was scored."""
    columns = [[round(float(value), 6) for value in curves.get(name, ())] for name in CURVES]
    rows = list(zip(range(255, -1, -1), *columns, strict=False))
    write_csv(folder / f"{kind}_curves.csv", ("threshold", *CURVES), rows)


def read_curves(folder: Path, kind: str) -> dict[str, list[float]]:
    """As given to write_curves; empty where there is no such file."""
    rows = _read(folder / f"{kind}_curves.csv")
    return {name: [float(row[name]) for row in rows] for name in CURVES} if rows else {}


def _read(path: Path) -> Sequence[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as f:
            return list(csv.DictReader(f))
    except OSError:
        return []
