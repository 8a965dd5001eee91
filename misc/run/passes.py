"""What every run script does: flags, the passes that are on, what failed, and an honest exit status."""

import importlib
import sys
import time
from collections.abc import Callable, Mapping

from misc.errors import InputError
from misc.files.store import remove_parts, require_writable, write_json
from misc.run.apart import paths_of, require_apart
from misc.run.distributed import is_main
from misc.run.failures import Failures, tell_any_name
from misc.run.flags import Args, Pass
from misc.run.memory import settle_memory
from misc.run.records import plain, versions


def run_passes(passes: Mapping[str, Pass], parse: Callable[[], Args], args_file: str = "args.json") -> int:
    """passes: flag -> what it runs; parse() -> args, which are kept in RESULT_DIR/args_file.

    Returns the exit status: 0; 1 where files failed (failed.csv lists them, the rest is done); 2 where the input is
    not usable.
    """
    settle_memory()
    tell_any_name()
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
        failures = Failures(args.result_dir / "failed.csv")
        for name, one in passes.items():
            if getattr(args, name):
                _run_pass(name.removesuffix("_pass"), one.step, args, failures)
        return failures.close()
    except InputError as e:
        if is_main():
            print(f"error: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command continues where it was", file=sys.stderr)
        return 130


def _run_pass(name: str, target: str, args: Args, failures: Failures) -> None:
    """Of several processes only the first has anything to do in a step that is not for SEVERAL_PROCESSES."""
    module, _, function = target.partition(":")
    step = importlib.import_module(module)
    if not is_main() and not getattr(step, "SEVERAL_PROCESSES", False):
        return
    started = time.perf_counter()
    getattr(step, function or "run")(args, failures)
    if is_main():
        print(f"{name}: {time.perf_counter() - started:.1f} s", flush=True)
