"""One function over many files, in threads, in order, with a progress bar; a failure stays with its file.

Threads, not processes: the kernels of pgt/ and the libraries that read and write pictures let go of Python's lock, so
two threads take half the time of one, and nothing has to be started, pickled or ended (benchmarks/run_slic.py).
"""

import os
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from misc.errors import InputError, one_line

Item, Result = TypeVar("Item"), TypeVar("Result")


def progress(iterable: Iterable | None, total: int, text: str, quiet: bool) -> tqdm:
    """A bar with images/s and time left; silent where quiet, or where nobody watches a terminal."""
    return tqdm(iterable, total=total, desc=text, unit="img", disable=not shows_progress(quiet))


def shows_progress(quiet: bool) -> bool:
    return not quiet and sys.stderr.isatty()


def num_workers_for(wanted: int, num_items: int) -> int:
    """wanted, or a worker per core where wanted is 0; no more than there are items."""
    return max(1, min(wanted or os.cpu_count() or 1, num_items))


def parallel_map(
    fn: Callable[[Item], Result], items: Iterable[Item], num_workers: int, ahead: int | None = None
) -> Iterator[tuple[Item, Result | OSError]]:
    """Yields (item, fn(item)) in the order of items; what fn raises is yielded in place of its result, as an OSError of
    that item: no list of exceptions holds all that decoders lead to. An InputError alone ends the run.

    num_workers 1 runs in the caller's thread, unless ahead is given. At most `ahead` items (default: 4 per worker) are
    done before the caller asks for them, so that memory stays bounded.
    """
    if num_workers <= 1 and ahead is None:
        yield from ((item, _try(fn, item)) for item in items)
        return
    waiting: deque[tuple[Item, Future]] = deque()
    pool = ThreadPoolExecutor(num_workers)
    try:
        for item in items:
            waiting.append((item, pool.submit(_try, fn, item)))
            if len(waiting) > (ahead or 4 * num_workers):
                item, future = waiting.popleft()
                yield item, future.result()
        while waiting:
            item, future = waiting.popleft()
            yield item, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _try(fn: Callable[[Item], Result], item: Item) -> Result | OSError:
    try:
        return fn(item)
    except InputError:
        raise
    except OSError as e:
        return e
    except Exception as e:
        at = traceback.extract_tb(e.__traceback__)[-1]
        return OSError(f"{one_line(e)} ({type(e).__name__} in {at.name}, line {at.lineno} of {Path(at.filename).name})")
