"""RESULT_DIR/scores: what the evaluators found, for the report to show and for anyone to read.

<kind>.csv          a row per image: image, digest (of the bytes of its label and its mask), scores from 0 to 1; and
                    split, of sets that have parts
<kind>_curves.csv   a row per threshold: precision, recall and f, means over the images
"""

import csv
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from misc.files.held import Held
from misc.files.store import fingerprint, write_csv

CURVES = ("precision", "recall", "f")
Read = Callable[[Path], Held]  # how a file comes into memory


def digest_of(label: Held, mask: Held) -> str:
    """Of what is scored: a row with another digest is of a label or mask that is no more."""
    return fingerprint(label.getvalue(), mask.getvalue())


def rounded(values: Iterable[float], digits: int = 6) -> list[float]:
    return [round(float(value), digits) for value in values]


def write_scores(result_dir: Path, kind: str, header: tuple[str, ...], rows: Iterable[Sequence]) -> None:
    write_csv(result_dir / "scores" / f"{kind}.csv", header, rows)


def read_scores(result_dir: Path, kind: str, images: Container[str]) -> dict[tuple[str, str], dict[str, float]]:
    """(image, digest) -> those of its scores that are numbers, of these images; empty where there is no such file."""
    words = ("split", "image", "digest")
    return {
        (row["image"], row["digest"]): {k: float(v) for k, v in row.items() if k not in words and v != "nan"}
        for row in read_rows(result_dir / "scores" / f"{kind}.csv")
        if row["image"] in images
    }


def write_curves(result_dir: Path, kind: str, results: Mapping) -> None:
    """results: each of CURVES -> (256,), at the thresholds 255, 254, ..., 0; none where nothing was scored."""
    rows = list(zip(range(255, -1, -1), *(rounded(results.get(name, ())) for name in CURVES), strict=False))
    write_scores(result_dir, f"{kind}_curves", ("threshold", *CURVES), rows)


def read_curves(result_dir: Path, kind: str) -> dict[str, list[float]]:
    """As given to write_curves; lists are empty where there is no such file."""
    rows = list(read_rows(result_dir / "scores" / f"{kind}_curves.csv"))
    return {name: [float(row[name]) for row in rows] for name in CURVES}


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """Of a csv, one by one: column -> text; none where there is no such file."""
    if path.is_file():
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as f:
            yield from csv.DictReader(f)
