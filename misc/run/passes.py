"""What every run script does: flags, the passes that are on, what failed, and an honest exit status."""

import importlib
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from misc.errors import InputError
from misc.files.store import remove_parts, require_writable, write_json
from misc.run.apart import folders_to_write, paths_of, require_apart
from misc.run.distributed import is_main, launched, together, wait_for_all
from misc.run.ending import answered
from misc.run.failures import Failures, tell_any_name
from misc.run.flags import Args, Pass
from misc.run.memory import settle_memory
from misc.run.records import plain, versions

_FILES = {"eval": "metrics.json", "doubtful": "doubtful.csv", "overview": "overview.png"}  # by how passes begin


def run_passes(passes: Mapping[str, Pass], parse: Callable[[], Args], args_file: str = "args.json") -> int:
    """passes: flag -> what it runs; parse() -> args, which are kept in RESULT_DIR/args_file.

    Returns the exit status: 0; 1 where files failed (failed.csv lists them, the rest is done); 2 where the input is
    not usable.
    """
    settle_memory()
    tell_any_name()
    return answered(lambda: _run(passes, parse, args_file))


def _run(passes: Mapping[str, Pass], parse: Callable[[], Args], args_file: str) -> int:
    try:
        args = parse()
        require_apart(args, passes)
        if is_main():
            for _, path in paths_of(args, "writes"):
                remove_parts(path)
            require_writable(args.result_dir)
            write_json(
                args.result_dir / args_file,
                {"args": {k: plain(v) for k, v in args.flat().items()}, "versions": versions()},
            )
        asked = [name for name in passes if getattr(args, name)]
        args.evaluates_alone = all(name.startswith("eval") for name in asked)
        failures = Failures(args.result_dir / "failed.csv")
        for name in asked:
            _run_pass(name.removesuffix("_pass"), passes[name].step, args, failures)
        if is_main():
            _tell_made(args, {name: passes[name] for name in asked})
        return failures.close()
    except InputError as e:
        if is_main():
            print(f"error: {e}", file=sys.stderr)
        return 2


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


def _run_pass(name: str, target: str, args: Args, failures: Failures) -> None:
    """Of several processes only the first has anything to do in a step that is not for SEVERAL_PROCESSES; at one that
    is, the others wait for it."""
    module, _, function = target.partition(":")
    step = importlib.import_module(module)
    shared = getattr(step, "SEVERAL_PROCESSES", False)
    if not is_main() and not shared:
        return
    if shared and launched().count > 1:
        from misc.run.device import pick_device

        wait_for_all(together(pick_device(args.device, args.deterministic))[0])
    started = time.perf_counter()
    getattr(step, function or "run")(args, failures)
    if is_main():
        print(f"{name}: {time.perf_counter() - started:.1f} s", flush=True)
