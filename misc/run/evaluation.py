"""What the stand-alone commands share: flags, what to do about missing files, tables and exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from misc.errors import InputError
from misc.files.store import write_csv, write_json
from misc.run.failures import Failures
from misc.run.flags import Args, Table, flag, stage


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


def present(
    names: Collection[str], folder: Path, find: Callable[[str], Path | None], step: str, failures: Failures | Strict
) -> dict[str, Path]:
    """name -> the prediction that find knows; names without one are added to failures."""
    found = {name: find(name) for name in names}
    missing = [name for name, path in found.items() if path is None]
    for name in missing:
        failures.add(step, folder / name, f"prediction is missing ({len(missing)} of {len(names)} are)")
    return {name: path for name, path in found.items() if path is not None}


@stage("every stand-alone command")
class Command:
    allow_missing: bool = flag(False, "leave out what is missing or of another size", often=True)
    num_workers: int = flag(0, "threads; 0: one per core", at_least=0)
    quiet: bool = flag(False, "no progress bars")


@stage("what is scored")
class Scored:
    pred_dir: tuple[Path, ...] = flag((), "folders to score, side by side", often=True, required=True)
    mask_dir: Path | None = flag(None, "masks; each needs a prediction of its name", often=True)
    list: Path | None = flag(None, "score only the images that this file names, one per line", often=True)
    out: Path | None = flag(None, "write all numbers to this .json", often=True)
    per_image: Path | None = flag(None, "write the scores of every image to this .csv", often=True)


def main_of(table: Table, work: Callable[[Args, Strict], None]) -> Callable[..., int]:
    """The main(argv=None) of a stand-alone command with these flags and Command's -> its exit status."""

    def main(argv: Sequence[str] | None = None) -> int:
        def run() -> None:
            args, _ = table.parse(argv)
            failures = Strict(args.allow_missing)
            try:
                work(args, failures)
            finally:
                failures.tell()

        return exit_status(run)

    return main


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


def each_folder(
    args: Args, score: Callable[[Path], tuple[dict, list[tuple]]], image_columns: Sequence[str]
) -> dict[str, dict]:
    """score(folder) -> its row, and a row per image: (name, digest, *image_columns), of each of args.pred_dir, by as
    much of its path as tells it from the others. Writes args.out and args.per_image."""
    results, images = {}, []
    for folder in dict.fromkeys(args.pred_dir):
        results[str(folder)], rows = score(folder)
        images += [(str(folder), name, *values) for name, _, *values in rows]
    if args.out:
        write_json(args.out, to_json(results))
    if args.per_image:
        write_csv(args.per_image, ("pred_dir", "image", *image_columns), images)
    names = short_names(list(results))
    return {names[folder]: row for folder, row in results.items()}


def short_names(folders: Sequence[str]) -> dict[str, str]:
    """folder -> as many of its last parts as tell it from the others."""
    parts = {folder: Path(folder).parts for folder in folders}
    for n in range(1, max(map(len, parts.values()), default=0)):
        names = {folder: "/".join(p[-n:]) for folder, p in parts.items()}
        if len(set(names.values())) == len(names):
            return names
    return {folder: folder for folder in folders}


def table(results: Mapping[str, Mapping[str, object]], columns: Sequence[str]) -> str:
    """A row per result; columns that no row has are left out, cells that a row lacks are empty."""
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
