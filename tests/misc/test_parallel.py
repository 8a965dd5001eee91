"""Order, failures and workers."""

import os
import time

import pytest

from misc.parallel import num_workers_for, parallel_map, prefetch


def halve(x):
    if x % 2:
        raise OSError(f"{x} is odd")
    return x // 2


def where(x):
    time.sleep(0.05)
    return os.getpid()


@pytest.mark.parametrize("num_workers", [1, 2])
def test_in_order_and_failures_stay_with_their_item(num_workers):
    got = list(parallel_map(halve, list(range(25)), num_workers))
    assert [item for item, _ in got] == list(range(25))
    assert [r for _, r in got if not isinstance(r, OSError)] == list(range(13))
    assert [str(r) for _, r in got if isinstance(r, OSError)] == [f"{i} is odd" for i in range(1, 25, 2)]


def test_workers_are_other_processes():
    assert {pid for _, pid in parallel_map(where, [1, 2], 1)} == {os.getpid()}
    pids = {pid for _, pid in parallel_map(where, list(range(12)), 2)}
    assert os.getpid() not in pids and 1 <= len(pids) <= 2


def test_a_bug_is_not_taken_for_a_bad_file():
    for num_workers in (1, 2):
        with pytest.raises(TypeError):
            list(parallel_map(halve, [2, "four"], num_workers))


def test_prefetch_is_in_order_and_bounded():
    started = []
    results = prefetch(lambda x: (started.append(x), halve(2 * x))[1], list(range(50)), ahead=3)
    first = [next(results) for _ in range(2)]
    time.sleep(0.2)
    assert first == [(0, 0), (1, 1)] and len(started) <= 6
    assert list(results) == [(i, i) for i in range(2, 50)]


def test_few_items_need_few_workers():
    assert num_workers_for(0, 8) == 1
    assert num_workers_for(4, 10_000) == 4
    assert num_workers_for(0, 10_000) == os.cpu_count()
    assert num_workers_for(4, 0) == 1
