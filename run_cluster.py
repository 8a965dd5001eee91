"""Any of the run scripts on a Ray cluster: their make_* passes by shards, an actor per GPU, else per machine.

    python -m pip install -r requirements-cluster.txt
    python run_cluster.py run_sample.py photos --result_dir shared/result              the cluster that is here, or none
    python run_cluster.py run_sample.py photos --address local                         this machine alone
    python run_cluster.py run_voc.py --train_seam_pass False --address 10.0.0.1:6379   a cluster's head
    python run_cluster.py run_sample.py photos --num_actors 8                          on the CPU; else one per machine

Every machine sees the images and RESULT_DIR under the same paths, and has this repository. Actors and machines that are
lost are replaced, their shards put back; where the driver or the head is lost, the same command goes on.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from misc.errors import InputError, one_line
from misc.files.remote import told
from misc.run.apart import remove_all_parts
from misc.run.failures import Failures
from misc.run.flags import Args
from misc.run.passes import run_passes
from misc.run.progress import Progress, talk_of
from misc.run.shards import TRIES, Step, Worker, flags_of, give_up

ROOT = Path(__file__).resolve().parent
SCRIPTS = ("run_sample", "run_slic", "run_voc", "run_coco")
_AT_ONCE = 2  # shards under way per actor, so that none waits for the driver


def options_of(words: list[str]) -> dict[str, str]:
    """The flags of this script, taken out of the words of a command line."""
    found = {}
    for name in ("address", "num_actors"):
        at = next((i for i, word in enumerate(words) if word.split("=")[0] == f"--{name}"), None)
        if at is not None:
            _, equals, value = words.pop(at).partition("=")
            if not equals and at == len(words):
                raise InputError(f"--{name} needs a value")
            found[name] = value if equals else words.pop(at)
    return found


def connect(address: str) -> Any:
    """Ray's module, connected. address: auto, local, or that of a cluster's head."""
    try:
        import ray
    except ImportError:
        raise InputError("Ray is not installed: python -m pip install -r requirements-cluster.txt") from None
    here = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    variables = {"PYTHONPATH": here, **{n: v for n, v in os.environ.items() if n == "OMP_NUM_THREADS"}}
    facts = {"runtime_env": {"env_vars": variables}, "log_to_driver": False, "logging_level": "ERROR"}
    try:
        ray.init(address, **facts)
    except ConnectionError:
        if address != "auto":
            raise InputError(f"--address {address}: no Ray cluster answers there") from None
        ray.init("local", **facts)
    return ray


class Actor:
    """A Worker on some machine of the cluster."""

    def __init__(self, folder: str, *told: Any):
        os.chdir(folder)
        self._work = Worker(*told)

    def label(self, number: int) -> int:
        self._work(number)
        return number


@dataclass
class Crew:
    """Actors, and what each is to give back: a shard, or None, its first sign of life, before which it has no shard: a
    cluster that shrank may never have room for it."""

    start: Callable[[], Any]
    under_way: dict[Any, tuple[Any, int | None]] = field(default_factory=dict)

    def add(self) -> None:
        actor = self.start()
        self.under_way[actor.__ray_ready__.remote()] = actor, None

    def give(self, actor: Any, left: list[int]) -> None:
        while left and sum(a is actor for a, _ in self.under_way.values()) < _AT_ONCE:
            number = left.pop()
            self.under_way[actor.label.remote(number)] = actor, number

    def lose(self, actor: Any) -> list[int]:
        """Takes a dead actor away -> its shards, the one that it was at first."""
        own = {ref: number for ref, (a, number) in self.under_way.items() if a is actor}
        for ref in own:
            del self.under_way[ref]
        return [number for number in own.values() if number is not None]


def hand_out(
    ray: Any, wanted: int, script: str, names: Sequence[str], _: Sequence[Step], numbers: Sequence[int], args: Args,
    failures: Failures,
) -> None:  # fmt: skip
    """Hands shards out to actors, at most _AT_ONCE each. An actor that is lost is replaced, its shards are put back;
    one at which actors were lost TRIES times is given up."""
    crew, count = crew_of(ray, wanted, script, names, args)
    left, lost = list(reversed(numbers)), Counter()
    for _ in range(min(count, len(numbers))):
        crew.add()
    with Progress(len(numbers), "shards", talk_of(args), "shard") as bar:
        while left or any(number is not None for _, number in crew.under_way.values()):
            (ref, *_), _ = ray.wait(list(crew.under_way))
            actor, number = crew.under_way[ref]
            error = _error(ray, ref)
            if isinstance(error, ray.exceptions.RayActorError):
                own = crew.lose(actor)
                lost.update(own[:1] or [None])
                if lost[None] >= TRIES * count:
                    raise InputError(f"{lost[None]} actors died before their first shard: {one_line(error)}")
                crew.add()
            else:
                del crew.under_way[ref]
                own = [number] if error else []
                lost.update(own)
                crew.give(actor, left)
            bar.update(int(number is not None and error is None))
            for one in reversed(own):
                if lost[one] < TRIES:
                    left.append(one)
                else:
                    give_up(one, f"failed {TRIES} times ({one_line(error)})", names, args, failures)
    if lost:
        remove_all_parts(args)


def crew_of(ray: Any, wanted: int, script: str, names: Sequence[str], args: Args) -> tuple[Crew, int]:
    """-> a crew, and how many actors it should have: as wanted, or one per GPU, or one per machine."""
    gpus = int(ray.cluster_resources().get("GPU", 0))
    needs = {"num_cpus": 1, "num_gpus": 1} if gpus else {"num_cpus": 1}
    device = "cuda" if gpus and args.device == "auto" else args.device
    flags = flags_of(args, num_workers=args.num_workers or 1, device=device)
    kind = ray.remote(**needs, scheduling_strategy="SPREAD")(Actor)
    machines = sum(node["Alive"] and node["Resources"].get("CPU", 0) >= 1 for node in ray.nodes())
    return Crew(partial(kind.remote, str(Path.cwd()), script, flags, names)), wanted or gpus or max(1, machines)


def _error(ray: Any, ref: Any) -> Exception | None:
    """None of what went well. Raises InputError where the work says that a person has to mend something."""
    try:
        ray.get(ref)
    except ray.exceptions.RayError as e:
        cause = getattr(e, "cause", None)
        if isinstance(cause, InputError):
            raise InputError(str(cause)) from None
        return e
    return None


def run(words: list[str]) -> int:
    """The exit status of the script that they name."""
    options = options_of(words)
    script = Path(words.pop(0)).stem if words else ""
    if script not in SCRIPTS:
        raise InputError(f"{script or 'nothing'} is no script to run; give one of {', '.join(SCRIPTS)}")
    if not options.get("num_actors", "0").isdecimal():
        raise InputError(f"--num_actors {options['num_actors']}: is not a whole number")
    if any(word.partition("=")[0] == "--num_devices" for word in words):
        raise InputError("--num_devices: is of one machine; give --num_actors, or leave run_cluster.py out")
    module, ray = importlib.import_module(script), connect(options.get("address", "auto"))
    to = partial(hand_out, ray, int(options.get("num_actors", 0)), script)
    try:
        return run_passes(module.PASSES, lambda: module.parse(words), to)
    finally:
        ray.shutdown()


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of run_passes."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    try:
        return run(words)
    except InputError as e:
        print(f"error: {told(str(e))}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
