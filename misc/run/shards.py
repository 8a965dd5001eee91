"""Shards: the images of a set in their order, so many at a time; what is done of them stands in RESULT_DIR/runs.

A shard is done by any process, as often as it may be: images whose results are whole are skipped, a file is whole or
absent, and a marker per shard and pass is written last. So who hands shards out needs to know nothing: a scheduler's
array (--shard), processes of this machine (misc/run/workers.py), or a cluster (run_cluster.py).
"""

from __future__ import annotations

import importlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from misc.errors import InputError
from misc.files.images import forget_sizes
from misc.files.remote import as_path, discard, drop, fetch_all, hold, url_of
from misc.files.store import fingerprint, read_json, write_json
from misc.run.failures import Failures
from misc.run.flags import Args
from misc.run.memory import settle_memory
from misc.run.progress import progress, talk_of
from misc.run.staging import begin, is_far, put_shard

_PART = re.compile(r"(auto|\d+)(?:/(\d+))?")
TRIES = 3  # deaths at a shard before it is given up
Step = Callable[["Args", Failures], None]


def is_sharded(args: Args) -> bool:
    """Whether flags ask for shards; files that lie elsewhere come by shards."""
    asked = (name in args.places and getattr(args, name) is not None for name in ("shard", "num_devices", "manifest"))
    return any(asked) or is_far(args)


def part_of(text: str | None, env: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """--shard -> (I, N): of N workers this one is number I. Raises InputError for what says neither."""
    found = _PART.fullmatch(text or "0/1")
    if found is None or (found[1] != "auto" and found[2] is None):
        raise InputError(f"--shard {text}: is neither I/N, auto nor auto/N")
    i, n = _of_scheduler(text, found[2], env) if found[1] == "auto" else (int(found[1]), int(found[2]))
    if not 0 <= i < n:
        raise InputError(f"--shard {text}: worker {i} of {n}; I goes from 0 to N - 1")
    return i, n


def _of_scheduler(text: str, count: str | None, env: Mapping[str, str]) -> tuple[int, int]:
    """As SLURM numbers the tasks of an array, from its first one on, or Kubernetes the pods of an indexed job; with N
    their number is taken as it is."""
    task = env.get("SLURM_ARRAY_TASK_ID", env.get("JOB_COMPLETION_INDEX"))
    if task is None:
        raise InputError(f"--shard {text}: neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set; give I/N")
    if count is not None:
        return int(task), int(count)
    if "SLURM_ARRAY_TASK_ID" not in env:
        raise InputError(f"--shard {text}: Kubernetes does not say of how many; give auto/N")
    low, high = int(env["SLURM_ARRAY_TASK_MIN"]), int(env["SLURM_ARRAY_TASK_MAX"])
    if high - low + 1 != int(env["SLURM_ARRAY_TASK_COUNT"]):
        raise InputError(f"--shard {text}: the array has gaps; give auto/N, and it the numbers 0 to N - 1")
    return int(task) - low, high - low + 1


def mine(args: Args, count: int) -> list[int]:
    """The numbers of the shards, of a set of `count` images, that --shard takes."""
    i, n = part_of(args.shard)
    return list(range(-(-count // args.shard_size)))[i::n]


# ---- markers


def marker_of(args: Args, step: str, number: int) -> Path:
    return args.result_dir / "runs" / f"{step}-{args.shard_size}" / f"{number:05d}.json"


def is_done(args: Args, step: str, number: int, state: str, failures: Failures) -> bool:
    """Whether a shard's marker says that all is as it is now; the failures that it holds are added."""
    path = marker_of(args, step, number)
    fetch_all([path])
    hold([path])
    held = read_json(path)
    if args.overwrite or not state or held.get("state") != state:
        return False
    for file, reason in held["failed"].items():
        failures.add(step, as_path(file), reason)
    return True


def state_of(args: Args, step: str) -> str:
    """That of the marker of a pass, of the shard that is under way; "" where there is none."""
    path = marker_of(args, step, args.at_shard)
    fetch_all([path])
    hold([path])
    return read_json(path).get("state", "")


def marked(
    args: Args, step: str, images: int, settings: Sequence[Any], state: Callable[[], str], work: Callable[[], int],
    failures: Failures,
) -> int:  # fmt: skip
    """work(), and then the marker of the shard that is under way, unless it says that all is as it is now -> how many
    of the images were made. settings: parts of a fingerprint; state(): what is made of what, before and after it."""
    number, started, before = args.at_shard, time.perf_counter(), len(failures)
    if is_done(args, step, number, state(), failures):
        return 0
    made = work()
    held = {"pass": step, "shard": number, "shard_size": args.shard_size, "images": images, "made": made}
    held |= {"failed": failures.since(before), "seconds": round(time.perf_counter() - started, 3)}
    held |= {"settings": fingerprint(*settings), "state": state()}
    write_json(marker_of(args, step, number), held)
    return made


def give_up(number: int, reason: str, names: Sequence[str], args: Args, failures: Failures) -> None:
    """Lists a shard that cannot be done by these passes; markers of an earlier run do not speak for it."""
    failures.add("shards", Path(f"shard {number}"), reason)
    for name in names:
        discard(marker_of(args, name.removesuffix("_pass"), number))


def seen(path: Path) -> str:
    """A file without a look into it: its size and time; of one that lies elsewhere its URL."""
    if url := url_of(path):
        return url
    try:
        held = path.stat()
    except OSError:
        return f"{path} is not there"
    return f"{path} {held.st_size} {held.st_mtime_ns}"


def failures_of(args: Args, steps: Iterable[str], numbers: Iterable[int]) -> Iterator[tuple[str, str, str]]:
    """(step, file, reason), of the markers of shards; of files that lie elsewhere, a shard that has none is one."""
    numbers, steps = list(numbers), list(steps)
    fetch_all(marker_of(args, step, number) for number in numbers for step in steps)
    for number in numbers:
        if is_far(args) and not any(marker_of(args, step, number).exists() for step in steps):
            yield "shards", f"shard {number}", "is not done; the same command does it"
        for step in steps:
            for file, reason in read_json(marker_of(args, step, number)).get("failed", {}).items():
                yield step, file, reason


# ---- work


def label(number: int, steps: Sequence[Step], args: Args, failures: Failures) -> None:
    """Runs passes on the images of one shard, and puts what they made where it belongs."""
    args.at_shard = number
    try:
        for step in steps:
            step(args, failures)
        put_shard(args)
    finally:
        args.at_shard = None
        drop()
        args.opened.pop("shard", None)
        forget_sizes()  # or memory would grow with the images


def here(names: Sequence[str], steps: Sequence[Step], numbers: Sequence[int], args: Args, failures: Failures) -> None:
    """Hands all out to this process."""
    for number in progress(numbers, len(numbers), "shards", talk_of(args), "shard"):
        label(number, steps, args, failures)


class Worker:
    """Labels shards in a process of its own, which is told all flags: script: the module that has them; flags: see
    flags_of; names: the passes to run."""

    def __init__(self, script: str, flags: Mapping[str, object], names: Sequence[str]):
        settle_memory()
        module = importlib.import_module(script)
        self._args = module.parse(flags)
        begin(self._args)
        self._args.quiet = True
        self._steps = [module.PASSES[name].load() for name in names]
        self._failures = Failures(None)  # markers hold them

    def __call__(self, number: int) -> None:
        label(number, self._steps, self._args, self._failures)


def flags_of(args: Args, **instead: object) -> dict[str, object]:
    """Flag -> value, of all flags, as if each were given, but for those that are named."""
    values = {**args.flat(), "shard": None, "num_devices": None, **instead}
    there = (name for name, value in values.items() if value is not None or args.places[name].optional)
    return {name: url_of(v) or v.absolute() if isinstance(v := values[name], Path) else v for name in there}
