"""What the stand-alone evaluators share: pairs of files, what to do about missing ones, tables and exit status."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from misc.errors import InputError
from misc.run.flags import HelpFormatter, count


@dataclass(frozen=True)
class Pair:
    pred: Path
    mask: Path


class Strict:
    """Stands in for misc.run.failures.Failures where the mean of what is left would mislead: the first failure ends the
    run with an InputError that names the file; where allowed, such images are left out and told of."""

    def __init__(self, allow_missing: bool):
        self.allow_missing = allow_missing
        self.rows: list[tuple[Path, object]] = []

    def add(self, step: str, file: Path, reason: object) -> None:
        if not self.allow_missing:
            raise InputError(f"{file}: {reason}; --allow_missing leaves such images out")
        self.rows.append((file, reason))

    def tell(self) -> None:
        if self.rows:
            file, reason = self.rows[0]
            print(f"{len(self.rows)} prediction(s) left out; first: {file}: {reason}", file=sys.stderr)


def present_pairs(
    masks: Mapping[str, Path], pred_dir: Path, find: Callable[[str], Path | None], step: str, failures
) -> list[Pair]:
    """A pair for every mask (stem -> file) that find knows a prediction for; the others are added to failures."""
    found = {stem: find(stem) for stem in masks}
    missing = [stem for stem, path in found.items() if path is None]
    for stem in missing:
        failures.add(step, pred_dir / stem, f"prediction is missing ({len(missing)} of {len(masks)} are)")
    return [Pair(path, masks[stem]) for stem, path in found.items() if path is not None]


def add_evaluator_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pred_dir", type=Path, nargs="+", required=True, help="folders to score, side by side")
    parser.add_argument("--allow_missing", action="store_true", help="leave out what is missing or of another size")
    parser.add_argument("--num_workers", type=count, default=0, help="threads; 0: one per core")
    parser.add_argument("--out", type=Path, help="write all numbers to this .json")
    parser.add_argument("--per_image", type=Path, help="write the scores of every image to this .csv")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def evaluator_parser(description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(description=description, formatter_class=HelpFormatter, allow_abbrev=False)


def exit_status(work: Callable[[], None]) -> int:
    """0; 2 where the input is not usable, told in one line."""
    try:
        work()
    except InputError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def short_names(folders: Sequence[str]) -> dict[str, str]:
    """folder -> as many of its last parts as tell it from the others."""
    parts = {folder: Path(folder).parts for folder in folders}
    for n in range(1, max(map(len, parts.values()), default=0)):
        names = {folder: "/".join(p[-n:]) for folder, p in parts.items()}
        if len(set(names.values())) == len(names):
            return names
    return {folder: folder for folder in folders}


def table(results: Mapping[str, Mapping[str, object]], columns: Sequence[str]) -> str:
    """A row a result; columns that no row has are left out, cells that a row lacks are empty."""
    columns = [name for name in columns if any(name in row for row in results.values())]
    first = max([10, *(len(name) + 2 for name in results)])
    widths = [max(12, len(name) + 2) for name in columns]
    lines = [" " * first + "".join(f"{name:>{width}}" for name, width in zip(columns, widths, strict=True))]
    for kind, row in results.items():
        cells = zip((row.get(name) for name in columns), widths, strict=True)
        lines.append(f"{kind:{first}}" + "".join(f"{_cell(value):>{width}}" for value, width in cells))
    return "\n".join(lines)


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def to_json(value: object) -> object:
    """Arrays and numpy numbers as JSON has them: 6 digits, NaN as null."""
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [to_json(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return None if np.isnan(value) else round(float(value), 6)
    return value.item() if isinstance(value, np.generic) else value
