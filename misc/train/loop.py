"""The one loop of everything that is trained here. A step says what a sample and a loss are (Task); the loop does the
rest: optimiser and schedule, several processes, mixed precision, states on disk, resuming, what is to be seen.

Nothing random is kept from step to step: images come in an order drawn for each epoch, a sample's changes are drawn
from its place in that order, and torch's generators start anew at every step, all from the seed. So a run that goes on
from a state is the run that was never killed, bit for bit on a CPU, whatever the number of reading threads.
"""

import contextlib
import csv
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from misc.errors import InputError, one_line
from misc.files.store import write_csv
from misc.run.device import autocast, facts_of
from misc.run.distributed import Processes, wait_for_all
from misc.run.parallel import parallel_map
from misc.run.progress import SILENT, Progress, Talk
from misc.train.checkpoint import forget_states, last_state, save_state
from misc.train.schedule import cosine, poly, warm_up

_LOG_LINES = 400  # of train.csv, about


@dataclass(frozen=True)
class Optimization:
    """optimizer: "sgd" or "adamw". learning_rate: of a group with factor 1. schedule: "poly" (0.9) or "cosine" over the
    steps after warm_up, a share of all. clip: largest norm of the gradient, 0: any. ema: share of the running mean of
    the weights that a step keeps, and the mean is the result; 0: none. accumulate: forwards per step."""

    optimizer: str = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: str = "poly"
    warm_up: float = 0.0
    clip: float = 0.0
    ema: float = 0.0
    accumulate: int = 1


@dataclass(frozen=True)
class Group:
    """Parameters with a factor on the learning rate, and whether they decay."""

    parameters: Sequence[nn.Parameter]
    factor: float = 1.0
    decays: bool = True


@dataclass(frozen=True)
class Length:
    """batch_size: images per step, of all processes together."""

    num_images: int
    batch_size: int
    num_steps: int
    seed: int = 0

    @property
    def epoch_steps(self) -> int:
        return math.ceil(self.num_images / self.batch_size)


class Task(Protocol):
    """net and groups: what is trained. sample(index, rng) -> arrays of one image, called in threads. loss(*batch), with
    the arrays stacked and images (N,H,W,3) turned into (N,3,H,W), -> "loss" and its parts; a mean over the batch."""

    net: nn.Module
    groups: Sequence[Group]

    def sample(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]: ...
    def loss(self, *batch: Tensor) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class Where:
    """What is on disk of a training. states: folder of its states. csv: file of its course. identity: what the weights
    depend on, besides Optimization and Length; of one name it wins; its paths begin in folder. resume: whether it goes
    on from the last state. state_steps: steps between states, 0: an epoch, at most 2,000."""

    states: Path
    csv: Path
    identity: Mapping[str, object]
    resume: bool = True
    state_steps: int = 0
    folder: Path = Path()


@dataclass(frozen=True)
class Run:
    """What computes. device: that of task.net. num_workers: threads that read images, 0: as many as suit the device.
    mixed: type of the forward passes, None for float32; losses are scaled where it is float16, which is short of range.
    on_epoch(step, task, speed) -> what is logged of an epoch, speed and scores of task.net in eval mode; called in the
    first process."""

    device: torch.device
    processes: Processes
    num_workers: int = 0
    talk: Talk = SILENT
    mixed: torch.dtype | None = None
    on_epoch: Callable[[int, Task, dict[str, float]], dict[str, float]] | None = None


def factor_groups(parameters: Sequence[Sequence[nn.Parameter]], head_factor: float = 10) -> list[Group]:
    """parameters: what net.network.parameter_groups gives. Learning rates of SEAM, AffinityNet and DeepLab: 1, 2 for
    biases, head_factor for new layers, twice that for their biases; biases do not decay."""
    weights, biases, new, new_biases = parameters
    return [
        Group(weights),
        Group(biases, 2, decays=False),
        Group(new, head_factor),
        Group(new_biases, 2 * head_factor, decays=False),
    ]


def make_optimizer(groups: Sequence[Group], how: Optimization) -> torch.optim.Optimizer:
    """What has no gradient is left out."""
    parameters = []
    for group in groups:
        rate, decay = how.learning_rate * group.factor, how.weight_decay if group.decays else 0.0
        if trained := [p for p in group.parameters if p.requires_grad]:
            parameters.append({"params": trained, "lr": rate, "factor": group.factor, "weight_decay": decay})
    if how.optimizer == "adamw":
        return torch.optim.AdamW(parameters, betas=(how.momentum, 0.999))
    return torch.optim.SGD(parameters, lr=how.learning_rate, momentum=how.momentum)


def set_learning_rate(optimizer: torch.optim.Optimizer, how: Optimization, step: int, num_steps: int) -> float:
    """-> the learning rate of a group with factor 1."""
    num_warm = round(how.warm_up * num_steps)
    schedule = {"poly": poly, "cosine": cosine}[how.schedule]
    rate = how.learning_rate * warm_up(step, num_warm) * schedule(max(0, step - num_warm), max(1, num_steps - num_warm))
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
    return rate


class Order:
    """Place 0, 1, 2, ... in a training -> index of the image: every epoch all of them, in an order of its own."""

    def __init__(self, num_images: int, seed: int):
        self.num_images, self.seed = num_images, seed
        self._epochs: dict[int, np.ndarray] = {}

    def __getitem__(self, place: int) -> int:
        epoch, i = divmod(place, self.num_images)
        if epoch not in self._epochs:
            self._epochs = {e: o for e, o in self._epochs.items() if e == epoch - 1}
            self._epochs[epoch] = np.random.default_rng((self.seed, epoch)).permutation(self.num_images)
        return int(self._epochs[epoch][i])


def places_of(length: Length, step: int, part: int, parts: int) -> range:
    """Places of the images of one of the parts (processes x forwards) of a step."""
    start, stop = (length.batch_size * i // parts for i in (part, part + 1))
    return range(step * length.batch_size + start, step * length.batch_size + stop)


def fit(task: Task, how: Optimization, length: Length, where: Where, run: Run) -> dict[str, float]:
    """Trains task.net, from the last state where there is one. -> what was logged of the last epoch.

    Raises InputError for a state of other settings, an image that cannot be read, and a loss that is not finite.
    """
    if not where.resume and run.processes.rank == 0:
        forget_states(where.states)
    wait_for_all(run.processes)
    loop = _Loop(task, how, length, where, run)
    loop.resume()
    loop.train()
    wait_for_all(run.processes)
    return loop.results


class _WithLoss(nn.Module):
    """DistributedDataParallel wants one forward per step: the loss and all that leads to it."""

    def __init__(self, task: Task):
        super().__init__()
        self.net, self._loss = task.net, task.loss

    def forward(self, *batch: Tensor) -> dict[str, Tensor]:
        return self._loss(*batch)


class _Loop:
    def __init__(self, task: Task, how: Optimization, length: Length, where: Where, run: Run):
        self.task, self.how, self.length, self.where, self.run = task, how, length, where, run
        self.parts = run.processes.count * how.accumulate
        if length.batch_size < self.parts:
            raise InputError(f"a batch of {length.batch_size} cannot be shared by {self.parts} (processes x forwards)")
        self.step, self.rows, self.results = 0, [], {}
        settings = {**asdict(how), **asdict(length), **where.identity}
        # as it comes back from a state: everything but numbers and truth values as text
        self.identity = {k: v if isinstance(v, (bool, int, float)) else str(v) for k, v in settings.items()}
        self.optimizer = make_optimizer(task.groups, how)
        self.scaler = torch.amp.GradScaler(run.device.type, enabled=run.mixed == torch.float16)
        self.mean = {k: v.detach().clone() for k, v in task.net.state_dict().items()} if how.ema else None
        self.order = Order(length.num_images, length.seed)

    # states

    def resume(self) -> None:
        state = last_state(self.where.states)
        if state is None:
            return
        held, wanted = state["identity"], self.identity
        if changed := [k for k in {**held, **wanted} if not _same(k, held.get(k), wanted.get(k), self.where.folder)]:
            was = ", ".join(f"{k} {held.get(k)} -> {wanted.get(k)}" for k in sorted(changed))
            raise InputError(
                f"{self.where.states} holds a training with other settings ({was[:300]}); give --resume False to start "
                "anew, or another --result_dir"
            )
        try:
            self.task.net.load_state_dict(state["net"])
        except RuntimeError as e:
            raise InputError(
                f"{self.where.states} is of another version ({one_line(e)}); give --resume False to start anew"
            ) from e
        self.optimizer.load_state_dict(state["optimizer"])
        if state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        self.step, self.results = state["step"], state["results"]
        if self.mean is not None:
            self.mean = {k: v.to(self.run.device) for k, v in state["mean"].items()}
        self.rows = [row for row in _read_rows(self.where.csv) if int(row["step"]) <= self.step]

    def save(self) -> None:
        if self.run.processes.rank == 0:
            self.write_rows()
            state = {"step": self.step, "net": self.task.net.state_dict(), "optimizer": self.optimizer.state_dict()}
            state |= {"identity": self.identity, "results": self.results, "scaler": self.scaler.state_dict()}
            save_state(self.where.states, self.step, state if self.mean is None else {**state, "mean": self.mean})

    # steps

    def train(self) -> None:
        length, started, validating = self.length, time.perf_counter(), 0.0
        first, log_steps = self.step, max(1, self.length.num_steps // _LOG_LINES)
        state_steps = self.where.state_steps or min(length.epoch_steps, 2000)
        if not length.num_steps:
            self.save()  # the network stays as it starts
        model = _WithLoss(self.task)
        if self.run.processes.count > 1:
            several = facts_of(self.run.device).several
            model = DistributedDataParallel(model, [self.run.device.index] if several else None)
        waiting: list[dict[str, Tensor]] = []
        course = f", in {self.where.csv}"
        told = Progress(length.num_steps, self.where.states.name, self.run.talk, "steps", first, course)
        with told, contextlib.closing(self.batches()) as batches:
            while self.step < length.num_steps:
                self.task.net.train()
                rate = set_learning_rate(self.optimizer, self.how, self.step, length.num_steps)
                waiting.append(self.one_step(model, batches))
                self.step += 1
                told.update()
                last = self.step == length.num_steps
                epoch_ends = self.step % length.epoch_steps == 0 or last
                saves = self.step % state_steps == 0 or last
                if self.step % log_steps == 0 or epoch_ends or saves:
                    seconds = time.perf_counter() - started - validating
                    speed = (self.step - first) * length.batch_size / seconds
                    told.note(self.log(waiting, rate, speed))
                    waiting = []
                if epoch_ends and self.run.processes.rank == 0:
                    before = time.perf_counter()
                    self.validate(speed)
                    validating += time.perf_counter() - before
                if saves:
                    self.save()
        if self.mean is not None:
            self.task.net.load_state_dict(self.mean)

    def one_step(self, model: nn.Module, batches: Iterator[tuple[Tensor, ...]]) -> dict[str, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        total: dict[str, Tensor] = {}
        for i in range(self.how.accumulate):
            part = self.run.processes.rank * self.how.accumulate + i
            seed = np.random.SeedSequence((self.length.seed, 2, self.step, part)).generate_state(1, np.uint64)[0]
            torch.manual_seed(int(seed >> np.uint64(1)))
            batch = next(batches)
            last = i == self.how.accumulate - 1
            share = len(batch[0]) * self.run.processes.count / self.length.batch_size
            with contextlib.nullcontext() if last or self.run.processes.count == 1 else model.no_sync():
                with autocast(self.run.device, self.run.mixed):
                    parts = model(*batch)
                self.scaler.scale(parts["loss"] * share).backward()
            for name, value in parts.items():
                total[name] = total.get(name, 0) + value.detach() * share
        if self.how.clip:
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(parameters, self.how.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.mean is not None:
            self.average()
        return total

    @torch.no_grad()
    def average(self) -> None:
        keep = min(self.how.ema, (self.step + 1) / (self.step + 10))  # early on the mean forgets the start sooner
        for name, value in self.task.net.state_dict().items():
            if value.is_floating_point():
                self.mean[name].lerp_(value, 1 - keep)
            else:
                self.mean[name].copy_(value)

    def batches(self) -> Iterator[tuple[Tensor, ...]]:
        """Of this process, from its step on, made in threads before they are asked for."""
        first = self.run.processes.rank * self.how.accumulate
        parts = range(first, first + self.how.accumulate)
        steps = range(self.step, self.length.num_steps)
        wanted = [places_of(self.length, step, part, self.parts) for step in steps for part in parts]
        facts = facts_of(self.run.device)
        workers = self.run.num_workers or facts.readers
        for _, batch in parallel_map(self.make_batch, wanted, workers, ahead=2 * workers):
            if isinstance(batch, OSError):
                raise InputError(f"{batch}; put a whole picture in its place, and the same command goes on")
            tensors = tuple(t.pin_memory() for t in batch) if facts.several else batch
            yield tuple(t.to(self.run.device, non_blocking=True) for t in tensors)

    def make_batch(self, places: range) -> tuple[Tensor, ...]:
        samples = [self.task.sample(self.order[at], np.random.default_rng((self.length.seed, 1, at))) for at in places]
        return tuple(_stack(arrays) for arrays in zip(*samples, strict=True))

    # what is to be seen

    def log(self, waiting: Sequence[dict[str, Tensor]], rate: float, speed: float) -> str:
        """-> the words of the row that it adds."""
        values = {name: float(torch.stack([parts[name] for parts in waiting]).mean()) for name in waiting[0]}
        if not math.isfinite(values["loss"]):
            raise InputError(
                f"the loss is {values['loss']} at step {self.step}: lower the learning rate, or clip the gradient; "
                f"the last state is in {self.where.states}"
            )
        epoch = self.step / self.length.epoch_steps
        shown = {k: f"{v:.6g}" for k, v in {**values, "lr": rate}.items()}
        self.rows.append({"step": self.step, "epoch": f"{epoch:.3f}", **shown, "images_per_s": f"{speed:.1f}"})
        return f"loss {values['loss']:.4f}, lr {rate:.2g}, {speed:.1f} img/s"

    def validate(self, speed: float) -> None:
        net, kept = self.task.net, None
        if self.mean is not None:
            kept = {k: v.clone() for k, v in net.state_dict().items()}
            net.load_state_dict(self.mean)
        net.eval()
        self.results = {"images_per_s": round(speed, 2)}
        if self.run.on_epoch:
            self.results = self.run.on_epoch(self.step, self.task, self.results)
        self.rows[-1].update({k: f"{v:.6g}" for k, v in self.results.items()})
        self.write_rows()
        if kept is not None:
            net.load_state_dict(kept)

    def write_rows(self) -> None:
        names = tuple(dict.fromkeys(name for row in self.rows for name in row))
        write_csv(self.where.csv, names, [tuple(row.get(name, "") for name in names) for row in self.rows])


def _stack(arrays: Sequence[np.ndarray]) -> Tensor:
    """Images (H,W,3) -> (N,3,H,W), which lie in memory as the network wants them; anything else -> (N,...)."""
    batch = torch.from_numpy(np.stack(arrays))
    return batch.permute(0, 3, 1, 2) if batch.dim() == 4 and batch.shape[3] == 3 else batch


def _same(setting: str, held: object, wanted: object, folder: Path = Path()) -> bool:
    """folder: where relative paths begin; those of states of before began where the program was started."""
    if setting in ("weights", "pretrained") and isinstance(held, str) and isinstance(wanted, str):
        if held == wanted or {"None", "True", "False"}.intersection((held, wanted)):
            return held == wanted
        one, other = Path(held), (folder / wanted).resolve()  # one file, however it is named
        return other in (one.resolve(), (folder / one).resolve()) or (one.is_absolute() and not one.exists())  # moved
    return held == wanted


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as f:
            return [{k: v for k, v in row.items() if v} for row in csv.DictReader(f)]
    except OSError:
        return []
