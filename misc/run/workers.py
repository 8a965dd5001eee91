"""Shards by processes of this machine, one per device, or several on the CPU's cores (--num_devices).

Each process has every N-th shard. One that dies is started again where it was; a shard at which it died three times is
given up, and listed.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Any

from misc.errors import InputError
from misc.files.remote import sweep, told
from misc.run.apart import remove_all_parts
from misc.run.failures import Failures, tell_any_name
from misc.run.flags import Args
from misc.run.progress import Progress, talk_of
from misc.run.shards import TRIES, Step, Worker, flags_of, give_up

_CONTEXT = multiprocessing.get_context("spawn")
_SECONDS = 0.5  # between looks at how far they are


@dataclass
class Crew:
    """A process and its shards. place: at which of them it is, as it says itself; before: how many were done by those
    that died."""

    flags: dict[str, object]
    numbers: list[int]
    before: int = 0
    process: Any = None
    place: Any = field(default_factory=lambda: _CONTEXT.Value("q", 0, lock=False))

    def start(self, script: str, names: Sequence[str]) -> None:
        self.place.value = 0
        given = script, self.flags, names, self.numbers, self.place
        self.process = _CONTEXT.Process(target=_work, args=given, daemon=True)
        self.process.start()

    @property
    def done(self) -> int:
        return self.before + self.place.value


def hand_out(
    script: str, names: Sequence[str], _: Sequence[Step], numbers: Sequence[int], args: Args, failures: Failures
) -> None:
    """Hands shards out to --num_devices processes. Raises InputError where one of them does."""
    flags = _flags(args)
    crews = [Crew(own, list(numbers[i :: len(flags)])) for i, own in enumerate(flags)]
    crews, deaths = [crew for crew in crews if crew.numbers], Counter()
    told = 0
    try:
        with Progress(len(numbers), "shards", talk_of(args), "shard") as bar:
            for crew in crews:
                crew.start(script, names)
            while at_work := [crew for crew in crews if crew.process is not None]:
                wait([crew.process.sentinel for crew in at_work], _SECONDS)
                for crew in at_work:
                    if crew.process.exitcode is not None:
                        _after(crew, script, names, deaths, args, failures)
                done = sum(crew.done for crew in crews)
                bar.update(done - told)
                told = done
    finally:
        for crew in crews:
            if crew.process is not None:
                crew.process.terminate()
                crew.process.join()
        sweep()
    if deaths:
        remove_all_parts(args)


def _flags(args: Args) -> list[dict[str, object]]:
    """The flags of each process."""
    from misc.run.device import pick_device, same_kind

    devices, cores = same_kind(pick_device(args.device, args.deterministic)), os.cpu_count() or 1
    most = len(devices) or cores
    if args.num_devices != "all" and not args.num_devices.isdecimal():
        raise InputError(f"--num_devices {args.num_devices}: is neither a number nor all")
    count = most if args.num_devices == "all" else int(args.num_devices)
    if count < 1 or (devices and count > most):
        raise InputError(f"--num_devices {count}: there are {most}")
    threads = max(1, cores // count)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # of the processes; this one has its own already
    names = devices[:count] or [args.device] * count
    return [flags_of(args, device=name, num_workers=args.num_workers or threads) for name in names]


def _after(crew: Crew, script: str, names: Sequence[str], deaths: Counter, args: Args, failures: Failures) -> None:
    """What follows the end of a process."""
    code, place = crew.process.exitcode, crew.place.value
    crew.process = None
    if code == 2:
        raise InputError("a process stopped, as told above; the same command goes on")
    if code == 0 or place == len(crew.numbers):
        return
    number = crew.numbers[place]
    deaths[number] += 1
    given_up = deaths[number] == TRIES
    if given_up:
        reason = f"its process died {TRIES} times (exit status {code})"
        give_up(number, reason, names, args, failures)
    crew.numbers, crew.before = crew.numbers[place + given_up :], crew.done + given_up
    crew.place.value = 0
    if crew.numbers:
        crew.start(script, names)


def _work(script: str, flags: dict[str, object], names: Sequence[str], numbers: Sequence[int], place: Any) -> None:
    """The life of a process: the exit status is 2 for what a person can mend. It does not outlive who started it."""
    tell_any_name()
    try:
        work = Worker(script, flags, names)
        for number in numbers:
            if not multiprocessing.parent_process().is_alive():
                return
            work(number)
            place.value += 1
    except InputError as e:
        print(f"error: {told(str(e))}", file=sys.stderr, flush=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(0)
