"""What every run script does: flags, the passes that are on, what failed, and an honest exit status."""

import importlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

from misc.errors import InputError
from misc.files.remote import as_path, discard, fetch_all, is_there, told
from misc.files.store import require_writable, write_json
from misc.run.apart import folders_to_write, remove_all_parts, require_apart
from misc.run.distributed import is_main, launched, together, wait_for_all
from misc.run.ending import answered
from misc.run.failures import Failures, tell_any_name
from misc.run.flags import Args, Pass
from misc.run.memory import settle_memory
from misc.run.records import plain, versions
from misc.run.shards import Step, failures_of, here, is_sharded, mine, part_of
from misc.run.staging import at_the_edges, begin, bring_results, is_far

HandOut = Callable[[Sequence[str], Sequence[Step], Sequence[int], Args, Failures], None]

_FILES = {"eval": "metrics.json", "doubtful": "doubtful.csv", "overview": "overview.png"}  # by how passes begin


def run_passes(passes: Mapping[str, Pass], parse: Callable[[], Args], hand_out: HandOut | None = None) -> int:
    """passes: flag -> what it runs; parse() -> args, which are kept in RESULT_DIR; hand_out: who hands out the shards,
    where flags do not say it (misc/run/shards.py).

    Returns the exit status: 0; 1 where files failed (failed.csv lists them, the rest is done); 2 where the input is
    not usable.
    """
    settle_memory()
    tell_any_name()
    return answered(lambda: _run(passes, parse, hand_out))


def _run(passes: Mapping[str, Pass], parse: Callable[[], Args], hand_out: HandOut | None) -> int:
    try:
        args = parse()
        begin(args)
        with at_the_edges():
            return _run_all(passes, args, hand_out or _hand_out_of(args, parse))
    except InputError as e:
        if is_main():
            print(f"error: {told(str(e))}", file=sys.stderr)
        return 2


def _run_all(passes: Mapping[str, Pass], args: Args, hand_out: HandOut | None) -> int:
    require_apart(args, passes)
    part, parts = part_of(args.shard) if hand_out else (0, 1)
    if is_main():
        _begin(args, parts)
    on = [name for name in passes if getattr(args, name)]
    if parts > 1:
        _require_trained(on, args)
    args.evaluates_alone = all(name.startswith("eval") for name in on)
    failed = args.result_dir / (f"runs/failed_{part}_of_{parts}.csv" if parts > 1 else "failed.csv")
    fetch_all([failed])  # one of before does not stay
    failures = Failures(failed)
    left = []
    for by_shards, names in groupby(on, lambda name: hand_out is not None and _is_by_shards(name, passes[name], args)):
        whole = [*names]
        if by_shards:
            _run_shards(whole, passes, args, failures, hand_out)
            whole = [name for name in whole if passes[name].parts]
        if parts > 1:
            left += whole
            continue
        if whole:
            bring_results(args)
        for name in whole:
            _run_pass(name.removesuffix("_pass"), passes[name], args, failures)
    if left:
        _leave_out(left)
    if is_main():
        _tell_made(args, {name: passes[name] for name in on})
    status = failures.close()
    if is_there(failed) and not failed.exists():
        discard(failed)
    return status


def _tell_made(args: Args, passes: Mapping[str, Pass]) -> None:
    """What there is now, where, and what to open."""
    trained = (one.makes.removeprefix("train_") for one in passes.values() if one.makes.startswith("train"))
    paths = [args.result_dir / "ckpt" / f"{name}.pth" for name in trained]
    paths += [folder for _, folder in folders_to_write(args, passes)]
    paths += [
        args.result_dir / file for first, file in _FILES.items() if any(name.startswith(first) for name in passes)
    ]
    there = [Path(plain(path, args.result_dir)).as_posix() + "/" * path.is_dir() for path in paths if path.exists()]
    page = args.result_dir / "report.html"
    if there:
        print(f"now in {args.result_dir}: {', '.join(there)}", flush=True)
    if "report_pass" in passes and page.is_file():
        print(f"open {page}", flush=True)


def _hand_out_of(args: Args, parse: Callable) -> HandOut | None:
    """Who hands out shards, as flags say; None for a run without shards. parse: of the script, which other processes
    load by its file's name."""
    if not is_sharded(args):
        return None
    if args.num_devices is None:
        return here
    from misc.run.workers import hand_out

    return partial(hand_out, Path(sys.modules[parse.__module__].__file__ or "").stem)


def _begin(args: Args, parts: int) -> None:
    if parts == 1:  # one of many does not look through folders in which others write
        remove_all_parts(args)
    require_writable(args.result_dir)
    held = {"args": {k: plain(v) for k, v in args.flat().items()}, "versions": versions()}
    write_json(args.result_dir / args.args_file, held)


def _require_trained(names: Sequence[str], args: Args) -> None:
    """Raises InputError where a run that has some of the shards shall train: that needs them all."""
    if trains := next((name for name in names if name.startswith("train_")), None):
        raise InputError(f"--shard {args.shard}: first run {trains}, by torchrun or alone; then give --{trains} False")


def _is_by_shards(name: str, one: Pass, args: Args) -> bool:
    """What lies elsewhere is scored once all is here."""
    return name.startswith("make_") or (one.parts and not is_far(args))


def _leave_out(names: Sequence[str]) -> None:
    """Passes that need all shards, in a run that has some of them."""
    left = ", ".join(name.removesuffix("_pass") for name in names)
    print(f"left out: {left}; once all shards are done, the same command with --shard 0/1 runs them", flush=True)


def _run_shards(names: Sequence[str], passes: Mapping[str, Pass], args: Args, failures: Failures, to: HandOut) -> None:
    """Passes shard by shard; what their markers say of failures, if other processes found them, is added."""
    if not is_main():
        return
    started, count = time.perf_counter(), importlib.import_module("step.sets").count_images(args)
    numbers, steps, args.shards = mine(args, count), [name.removesuffix("_pass") for name in names], None
    to(names, [passes[name].load() for name in names], numbers, args, failures)
    args.shards = None if is_far(args) else numbers
    known = failures.files([*steps, "shards"])
    for step, file, reason in failures_of(args, steps, numbers):
        if (step, file) not in known:
            failures.add(step, as_path(file), reason)
    seconds = time.perf_counter() - started
    print(f"{', '.join(steps)}: {len(numbers)} shards of {args.shard_size} images, {seconds:.1f} s", flush=True)


def _run_pass(name: str, one: Pass, args: Args, failures: Failures) -> None:
    """Of several processes only the first has anything to do in a step that is not for SEVERAL_PROCESSES; at one that
    is, the others wait for it."""
    step = one.load()
    shared = getattr(sys.modules[step.__module__], "SEVERAL_PROCESSES", False)
    if not is_main() and not shared:
        return
    if shared and launched().count > 1:
        from misc.run.device import pick_device

        wait_for_all(together(pick_device(args.device, args.deterministic))[0])
    started = time.perf_counter()
    step(args, failures)
    if is_main():
        print(f"{name}: {time.perf_counter() - started:.1f} s", flush=True)
