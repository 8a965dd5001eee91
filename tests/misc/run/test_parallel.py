"""Order, failures and workers."""

import os
import threading
import time

import pytest

from misc.errors import InputError
from misc.run.parallel import num_workers_for, parallel_map


def halve(x):
    if x % 2:
        raise OSError(f"{x} is odd")
    return x // 2


@pytest.mark.parametrize("num_workers", [1, 2])
def test_in_order_and_failures_stay_with_their_item(num_workers):
    got = list(parallel_map(halve, list(range(25)), num_workers))
    assert [item for item, _ in got] == list(range(25))
    assert [r for _, r in got if not isinstance(r, OSError)] == list(range(13))
    assert [str(r) for _, r in got if isinstance(r, OSError)] == [f"{i} is odd" for i in range(1, 25, 2)]


def test_two_workers_work_at_once():
    meeting = threading.Barrier(2, timeout=30)  # breaks, unless two items are worked on together
    assert len(list(parallel_map(lambda _: meeting.wait(), list(range(8)), 2))) == 8
    assert {thread for _, thread in parallel_map(lambda _: threading.get_ident(), [1, 2], 1)} == {threading.get_ident()}


def test_a_caller_who_stops_early_waits_for_nothing_more():
    started = []
    results = parallel_map(lambda x: (started.append(x), time.sleep(0.01)), list(range(1000)), 2)
    next(results)
    results.close()
    count = len(started)
    time.sleep(0.05)
    assert count == len(started) < 20


def test_whatever_is_raised_stays_with_its_item_and_says_where():
    for num_workers in (1, 2):
        (_, one), (_, bad) = parallel_map(halve, [2, "four"], num_workers)
        assert one == 1 and isinstance(bad, OSError) and "TypeError in halve, line" in str(bad)

    def refuse(_):
        raise InputError("no space")

    with pytest.raises(InputError, match="no space"):
        list(parallel_map(refuse, [1, 2], 2))


def test_work_ahead_is_in_order_and_bounded():
    started = []
    results = parallel_map(lambda x: (started.append(x), halve(2 * x))[1], list(range(50)), 3, ahead=3)
    first = [next(results) for _ in range(2)]
    time.sleep(0.2)
    assert first == [(0, 0), (1, 1)] and len(started) <= 6
    assert list(results) == [(i, i) for i in range(2, 50)]


def test_no_more_workers_than_items():
    assert num_workers_for(0, 10_000) == os.cpu_count()
    assert [num_workers_for(4, n) for n in (0, 1, 3, 10_000)] == [1, 1, 3, 4]
