"""One function over many files: in worker processes, in order, with a progress bar; a failure stays with its file."""

import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

Item, Result = TypeVar("Item"), TypeVar("Result")


def progress(iterable: Iterable, total: int, text: str, quiet: bool) -> tqdm:
    """A bar with images/s and time left; silent where quiet, or where nobody watches a terminal."""
    return tqdm(iterable, total=total, desc=text, unit="img", disable=quiet or not sys.stderr.isatty())


def num_workers_for(wanted: int, num_items: int) -> int:
    """wanted, or a worker per core where wanted is 0; never so many that starting them costs more than they bring."""
    return min(wanted or os.cpu_count() or 1, max(1, num_items // 16))


def parallel_map(
    fn: Callable[[Item], Result], items: Sequence[Item], num_workers: int
) -> Iterator[tuple[Item, Result | OSError]]:
    """Yields (item, fn(item)) in the order of items; an OSError of fn (a bad file) is yielded in place of its result.

    num_workers 1 runs in this process; more are spawned (the same on Linux, macOS and Windows), so fn and items must be
    picklable: a module's function, or functools.partial of one.
    """
    if num_workers <= 1:
        yield from ((item, _try(fn, item)) for item in items)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, context, initializer=_follow_parent) as pool:
        yield from _in_order(pool, fn, items, 4 * num_workers)


def prefetch(
    fn: Callable[[Item], Result], items: Sequence[Item], ahead: int
) -> Iterator[tuple[Item, Result | OSError]]:
    """As parallel_map, in threads, at most `ahead` items before the consumer: for reading while a device works."""
    with ThreadPoolExecutor(min(ahead, 8)) as pool:
        yield from _in_order(pool, fn, items, ahead)


def _try(fn: Callable[[Item], Result], item: Item) -> Result | OSError:
    try:
        return fn(item)
    except OSError as e:
        return e


def _in_order(pool: Executor, fn: Callable[[Item], Result], items: Iterable[Item], ahead: int) -> Iterator:
    waiting: deque[tuple[Item, Future]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(_try, fn, item)))
            if len(waiting) > ahead:
                item, future = waiting.popleft()
                yield item, future.result()
        while waiting:
            item, future = waiting.popleft()
            yield item, future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _follow_parent() -> None:
    """A worker whose parent was killed ends with it: no orphan goes on writing while the run is started again."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
