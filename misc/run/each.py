"""The one loop of all that turns files into files: resumable, by several workers, a failure stays with its file.

A step says what its items are (Item), what their results depend on, and how one is made; the loop reads the files,
knows all outputs of an item by their fingerprints, keeps what is current, makes the rest, and lists what failed.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import cv2

from misc.errors import OutOfMemory
from misc.files.held import Held
from misc.files.remote import any_failed, fetch_all, hold, url_of
from misc.files.store import fingerprint, is_current, require_writable
from misc.run.failures import Failures
from misc.run.flags import Args
from misc.run.parallel import num_workers_for, parallel_map
from misc.run.progress import SILENT, progress, talk_of
from misc.run.records import write_record
from misc.run.shards import marked, marker_of, seen, state_of

Write = Callable[..., None]  # write(path, made_from=fingerprint)


@dataclass(frozen=True)
class Item:
    """source: the file that failures name; outs: all that is made of it; reads: the files that it is made of, source
    first where it is among them; made_by: the steps that make the others, a blank between; facts: what else its results
    depend on."""

    source: Path
    outs: tuple[Path, ...]
    reads: tuple[Path, ...]
    made_by: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


_WRITERS = 4  # threads that encode and write beside a device


@dataclass(frozen=True)
class Batches:
    """Work that is done in the caller's thread, on a device, while others read ahead and write: what make gives for up
    to `size` neighbours whose `key`s agree -> what is to be written of each. Where compute raises OutOfMemory, the rest
    of that key comes by half as many. fill: what is left after batches of size is filled up by its last, so that a
    device that pays for every new shape meets one number of images per key. order: of the items that are looked at."""

    compute: Callable[[Sequence[Any]], Iterable[Sequence[Write]]]
    size: int = 1
    key: Callable[[Any], object] = lambda _: None
    fill: bool = False
    order: Callable[[Sequence[Item]], Sequence[Item]] = list


@dataclass(frozen=True)
class Made:
    """An item whose results are not current: their fingerprints, and what make gave."""

    item: Item
    prints: tuple[str, ...]
    result: Any


def each(
    step: str,
    items: Sequence[Item],
    settings: Mapping[str, object] | Callable[[Item], Sequence[object]],
    make: Callable[[Item, Sequence[Held]], Any],
    args: Args,
    failures: Failures,
    *,
    what: str = "labels",
    batches: Batches | None = None,
    key: str = "",
    facts: Mapping[str, object] | None = None,
) -> int:
    """Makes what is not current of the items; -> how many.

    settings: whatever the results depend on besides the files and the item's facts, of all outputs alike, or of an item
    the parts of the fingerprint of each output. make(item, its reads) -> what is to be written, a Write per output, or
    what batches take. What is raised is the item's failure. key, facts: of the record (misc/run/records.py) that is
    written before the first result, or where all is kept. Where the items are a shard's (args.at_shard), a marker says
    at its end how it went, and while that is as it was, no file is decoded (misc/run/shards.py).
    """
    how = {"what": what, "batches": batches, "key": key, "facts": facts}
    if args.at_shard is None or not items:
        return _make(step, items, settings, make, args, failures, **how)

    def work() -> int:
        _fetch(step, items, args, failures)
        return _make(step, items, settings, make, args, failures, **how)

    state = partial(_state, items, settings, args)
    digested = [*_flat(settings(items[0]) if callable(settings) else [settings])]
    return marked(args, step, len(items), digested, state, work, failures)


def _make(
    step: str,
    items: Sequence[Item],
    settings: Mapping[str, object] | Callable[[Item], Sequence[object]],
    make: Callable[[Item, Sequence[Held]], Any],
    args: Args,
    failures: Failures,
    what: str,
    batches: Batches | None,
    key: str,
    facts: Mapping[str, object] | None,
) -> int:
    """each, of all items."""
    todo = [item for item in items if item.source not in failures]
    todo = batches.order(todo) if batches else todo
    for folder in {out.parent for item in items for out in item.outs}:
        require_writable(folder)
    cv2.setNumThreads(1)  # the workers are the parallelism

    def record(made: bool = True) -> None:
        if key:
            write_record(args, step, key, _folder(args, key, items[0].outs[0]), made, **(facts or {}))

    write = _Writer(record)

    def work(item: Item) -> Made | None:
        data = [_held(path, item) for path in item.reads]
        prints = tuple(_prints(item, data, settings))
        if not args.overwrite and all(map(is_current, item.outs, prints)):
            return None
        made = Made(item, prints, make(item, data))
        return made if batches else write(made, made.result)

    ahead = 2 * batches.size if batches else None
    workers = num_workers_for(args.num_workers, min(ahead or len(todo), len(todo)))
    talk = SILENT if args.at_shard is not None else talk_of(args)
    done = progress(parallel_map(work, todo, workers, ahead), len(todo), step, talk)
    waiting = _that_wait(done, step, failures)  # nothing waits without batches
    if batches:
        written = parallel_map(lambda pair: write(*pair), _computed(waiting, batches), _WRITERS, ahead)
        waiting = _that_wait(((made.item, result) for (made, _), result in written), step, failures)
    for _ in waiting:
        pass
    if not write.num and any(item.source not in failures for item in items):
        record(made=False)
    where = f", in {items[0].outs[0].parent}" if items else ""
    if args.at_shard is None:
        kept = len(items) - write.num
        print(f"{step}: {write.num} {what}{write.size()} made, {kept} kept or failed{where}", flush=True)
    return write.num


def _folder(args: Args, key: str, out: Path) -> Path:
    """That of the results of a record, below which there may be others."""
    own = getattr(args, f"{key}_out_dir", None) or args.result_dir / key
    return own if own in out.parents else out.parent


def _held(path: Path, item: Item) -> Held:
    try:
        return Held(path)
    except FileNotFoundError:
        if path == item.source:
            raise
        raise FileNotFoundError(f"{path}, which it needs, is missing: run {', '.join(item.made_by.split())}") from None


def _prints(item: Item, data: Sequence[Held], settings: Any) -> Iterator[str]:
    """The fingerprint of each output."""
    held = [file.getvalue() for file in data]
    return (fingerprint(*held, *_flat([part])) for part in _parts(item, settings))


def _parts(item: Item, settings: Any) -> Sequence[Any]:
    """What the fingerprint of each output has besides the files."""
    return settings(item) if callable(settings) else [{**settings, **item.facts}] * len(item.outs)


def _flat(parts: Sequence[Any]) -> Iterator[Any]:
    return (one for part in parts for one in (part if isinstance(part, tuple) else (part,)))


def _fetch(step: str, items: Sequence[Item], args: Args, failures: Failures) -> None:
    """Of files that lie elsewhere, those that are read, and what an earlier run made of them."""
    todo = [item for item in items if item.source not in failures]
    hold(path for item in items for path in (*item.reads, *item.outs))
    fetch_all(path for item in todo for path in item.reads)
    if not args.overwrite and marker_of(args, step, args.at_shard).exists():
        fetch_all(path for item in todo for path in item.outs)


def _state(items: Sequence[Item], settings: Any, args: Args) -> str:
    """A digest of what items are made of and what is there of them, without a look into a file: sizes and times. Of
    what lies elsewhere, the digest of its listing, and of the pass whose results are read; "" where that has none, or a
    file could not be fetched."""
    told = (part for item in items for part in (*_flat(_parts(item, settings)), *map(seen, (*item.reads, *item.outs))))
    if not any(map(url_of, (*items[0].reads, *items[0].outs))):
        return fingerprint(*told)
    states = [state_of(args, maker) for maker in sorted({maker for item in items for maker in item.made_by.split()})]
    if not all(states) or any_failed(path for item in items for path in item.reads):
        return ""
    manifest = args.opened.get("manifest")
    return fingerprint(*told, *states, str(manifest and manifest.facts.get("listed")))


class _Writer:
    """Writes results, from any thread, and counts them."""

    def __init__(self, record: Callable[..., None]):
        self._record, self._lock = record, threading.Lock()
        self.num, self._bytes, self._recorded = 0, 0, False

    def __call__(self, made: Made, result: Sequence[Write]) -> None:
        with self._lock:
            if not self._recorded:
                self._record()
            self._recorded = True
        for write, out, made_from in zip(result, made.item.outs, made.prints, strict=True):
            write(out, made_from=made_from)
        size = sum(out.stat().st_size for out in made.item.outs if out.suffix == ".npz")
        with self._lock:
            self.num, self._bytes = self.num + 1, self._bytes + size

    def size(self) -> str:
        return f" of {self._bytes / self.num / 1000:.1f} kB" if self._bytes else ""


def _that_wait(done: Iterable[tuple[Item, Made | OSError | None]], step: str, failures: Failures) -> Iterator[Made]:
    """What is still to be written; what failed is listed."""
    for item, result in done:
        if isinstance(result, OSError):
            failures.add(step, item.source, result)
        elif result is not None:
            yield result


def _computed(waiting: Iterable[Made], batches: Batches) -> Iterator[tuple[Made, Sequence[Write]]]:
    """Each with what is to be written of it, by neighbours whose keys agree."""
    for _, alike in groupby(waiting, key=lambda made: batches.key(made.result)):
        size, was_full, left = batches.size, False, [*islice(alike, batches.size)]
        while left:
            some = left[:size]
            given = [made.result for made in some]
            given += given[-1:] * (was_full and batches.fill and size - len(some))
            try:
                results = [*batches.compute(given)]
            except OutOfMemory:
                if size == 1:
                    raise
                size, was_full = size // 2, False
                continue
            was_full = was_full or len(given) == size
            yield from zip(some, results[: len(some)], strict=True)
            left = left[len(some) :] or [*islice(alike, size)]
