"""What evaluators and the stand-alone commands share: predictions beside the truth, flags, tables and exit status."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from misc.errors import InputError
from misc.files.predictions import find_predictions
from misc.files.remote import told
from misc.files.store import remove_parts, write_csv, write_json
from misc.run.apart import paths_of, require_apart
from misc.run.ending import answered
from misc.run.failures import Told, tell_any_name
from misc.run.flags import Args, Table, Talks, flag, stage
from misc.run.parallel import num_workers_for, parallel_map
from misc.run.progress import progress, talk_of
from misc.run.staging import at_the_edges

_WIDTH = 80  # of a table, in letters
Files = Mapping[str, Path]  # by the names of images
Truth, Result = TypeVar("Truth"), TypeVar("Result")


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


def compare(
    step: str,
    folder: Path,
    truths: Mapping[str, Truth],
    work: Callable[[str, Path, Truth], Result],
    args: Args,
    failures: Told,
    preds: Files | None = None,
) -> Iterator[Result]:
    """work(name, prediction, truth) of all truths (by name), in their order, by several workers.

    preds: name -> prediction, where find_predictions is not to look for it in folder. Names that have none, and those
    of which work raises anything, are added to failures. args: num_workers, and those of talk_of.
    """
    preds = find_predictions(folder, truths) if preds is None else preds
    found = {name: preds.get(name) for name in truths}
    missing = [name for name, path in found.items() if path is None]
    for name in missing:
        failures.add(step, folder / name, f"prediction is missing ({len(missing)} of {len(found)} are)")
    pairs = [(name, path) for name, path in found.items() if path is not None]
    done = parallel_map(lambda pair: work(*pair, truths[pair[0]]), pairs, num_workers_for(args.num_workers, len(pairs)))
    for (_, path), result in progress(done, len(pairs), f"{step} {folder.name}", talk_of(args)):
        if isinstance(result, OSError):
            failures.add(step, path, result)
        else:
            yield result


def nothing_to_compare(step: str, missing: str, args: Args) -> None:
    """Says so in a line. Raises InputError where evaluations are all that was asked for."""
    if args.evaluates_alone:
        raise InputError(f"{step}: {missing}, so there is nothing to compare with")
    print(f"{step}: {missing}, so there is nothing to compare with", flush=True)


def only(known: Mapping[str, Truth], names: Iterable[str], source: object, what: str) -> dict[str, Truth]:
    """Those of known that have these names. Raises InputError, which says where the names are from, for any other."""
    for name in names:
        if name not in known:
            raise InputError(f"{source} names {name}, of which there is no {what}")
    return {name: known[name] for name in names}


@stage("every stand-alone command")
class Command(Talks):
    allow_missing: bool = flag(False, "leave out what is missing or of another size", often=True)
    num_workers: int = flag(0, "threads; 0: one per core", at_least=0)


@stage("what is scored")
class Scored:
    pred_dir: tuple[Path, ...] = flag((), "folders to score, side by side", often=True, required=True, reads=True)
    mask_dir: Path | None = flag(None, "masks; each needs a prediction of its name", often=True, reads=True)
    list: Path | None = flag(None, "score only the images that this file names, one per line", often=True)
    out: Path | None = flag(None, "write all numbers to this .json", often=True, writes=True)
    per_image: Path | None = flag(None, "write the scores of every image to this .csv", often=True, writes=True)


def main_of(table: Table, work: Callable[[Args, Strict], None]) -> Callable[..., int]:
    """The main(argv=None) of a stand-alone command with these flags and Command's -> its exit status."""

    def run(argv: Sequence[str] | None) -> None:
        args, _ = table.parse(argv)
        require_apart(args)
        for _, path in paths_of(args, "writes"):
            remove_parts(path)
        failures = Strict(args.allow_missing)
        with at_the_edges():
            try:
                work(args, failures)
            finally:
                failures.tell()

    return lambda argv=None: exit_status(lambda: run(argv))


def exit_status(work: Callable[[], None]) -> int:
    """0; 2 where the input is not usable, told in one line."""
    tell_any_name()

    def status() -> int:
        try:
            work()
        except InputError as e:
            print(f"error: {told(str(e))}", file=sys.stderr)
            return 2
        return 0

    return answered(status)


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
    for n in range(1, max(len(Path(folder).parts) for folder in folders)):
        names = {folder: "/".join(Path(folder).parts[-n:]) for folder in folders}
        if len(set(names.values())) == len(names):
            return names
    return {folder: folder for folder in folders}


def table(results: Mapping[str, Mapping[str, object]], columns: Sequence[str]) -> str:
    """A row per result; columns that no row has are left out, cells that a row lacks are empty. What is wider than
    _WIDTH comes in several parts, one below the other."""
    columns = [name for name in columns if any(name in row for row in results.values())]
    first = max(9, *(len(name) for name in results), 0)
    widths = {name: max(len(name), *(len(_cell(row.get(name))) for row in results.values())) + 2 for name in columns}
    parts: list[list[str]] = [[]]
    for name in columns:
        if parts[-1] and first + sum(widths[other] for other in (*parts[-1], name)) > _WIDTH:
            parts.append([])
        parts[-1].append(name)
    head = {name: name for name in columns}
    lines = (
        f"{name:{first}}" + "".join(f"{_cell(row.get(key)):>{widths[key]}}" for key in part)
        for part in parts
        for name, row in (("", head), *results.items())
    )
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
