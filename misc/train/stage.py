"""What all trainings share around the loop: a step says what a training is (Stage), flags say where and how it runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import nn

from misc.errors import InputError
from misc.files.download import sha256_of
from misc.files.store import read_json
from misc.run.device import fixed_shapes, memory_format, out_of_memory, pick_device, training_type
from misc.run.distributed import is_main, together
from misc.run.flags import Args
from misc.run.progress import talk_of
from misc.run.records import plain, record_path, write_record
from misc.train.loop import Length, Optimization, Run, Task, Where, fit


@dataclass(frozen=True)
class Stage:
    """A training: its result is RESULT_DIR/ckpt/<name>.pth, its states are in ckpt/train_<name>/, its course is in csv
    (train_<name>.csv). recipe: see optimization_of and length_of. num_images: of an epoch. identity: what the weights
    depend on besides the recipe. save(file, network) writes the result. on_epoch: see Run."""

    name: str
    recipe: Any
    num_images: int
    identity: Mapping[str, object]
    save: Callable[[Path, nn.Module], None]
    csv: str | None = None
    on_epoch: Callable[[int, Task, dict[str, float]], dict[str, float]] | None = None


def train(
    stage: Stage, args: Args, build: Callable[[], nn.Module], task: Callable[[nn.Module], Task]
) -> dict[str, float]:
    """build() -> the network as it starts; task(network) -> what is trained, of the network on its device. -> what fit
    gives. Called by all processes, of which the first one writes and talks. Raises InputError as fit does."""
    name, recipe, folder = stage.name, stage.recipe, args.result_dir
    how, length = optimization_of(recipe, args.accumulate), length_of(recipe, stage.num_images, args.seed)
    states, csv = folder / "ckpt" / f"train_{name}", folder / (stage.csv or f"train_{name}.csv")
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(recipe).items()}
    # paths as seen from the folder: both may move together
    identity = {k: plain(v, folder) if isinstance(v, Path) else v for k, v in stage.identity.items()}
    where = Where(states, csv, {**settings, **identity}, args.resume, args.state_steps, folder)
    ended = args.resume and (states / f"step_{length.num_steps}.pth").is_file()
    cv2.setNumThreads(1)  # the reading threads are the parallelism
    prefix = name.partition("_")[0]
    smaller = f"raise --accumulate, or lower --{prefix}_batch_size or --{prefix}_crop_size"
    processes, device = together(pick_device(args.device, args.deterministic))
    with out_of_memory(smaller):
        torch.manual_seed(args.seed)
        network = build()
        trained = task(network.to(device, memory_format=memory_format(network, device)))
        mixed = training_type(device, getattr(network, "wide", False))
        run = Run(device, processes, args.num_workers, talk_of(args), mixed, stage.on_epoch)
        with fixed_shapes(device, args.deterministic):
            scores = fit(trained, how, length, where, run)
    if is_main():
        file, what = folder / "ckpt" / f"{name}.pth", f"train_{name}"
        if not (ended and file.is_file()):  # what was made with the very file is not to be made anew
            file.unlink(missing_ok=True)  # one of an earlier training is not to be taken for this one's
            stage.save(file, trained.net)
        start = {k: stage.identity[k] for k in ("network", "weights") if k in stage.identity}
        facts = {**start, "sha256": sha256_of(file)}
        same = read_json(record_path(args, what)).get("sha256") == facts["sha256"]
        write_record(args, what, what, file.parent, not same, **facts)
        told = ", ".join(f"{k} {v:.4g}" for k, v in scores.items()) or "no step, the network stays as it starts"
        print(f"{what}: {told}; {file}", flush=True)
    return scores


def optimization_of(recipe: Any, accumulate: int) -> Optimization:
    """recipe: a data class whose fields have the names of those of Optimization that it sets."""
    given = {f.name: getattr(recipe, f.name) for f in fields(Optimization) if hasattr(recipe, f.name)}
    return Optimization(**given, accumulate=accumulate)


def length_of(recipe: Any, num_images: int, seed: int) -> Length:
    """recipe: a data class with batch_size, and num_steps or, where that is absent or 0, num_epoches; where both are 0,
    there is no step."""
    steps = getattr(recipe, "num_steps", 0)
    if not steps and recipe.num_epoches:
        steps = max(1, round(recipe.num_epoches * num_images / recipe.batch_size))
    return Length(num_images, recipe.batch_size, steps, seed)


def trained_file(args: Args, name: str, flag: str) -> Path:
    """The checkpoint that train_<name> leaves. Raises InputError where it did not."""
    path = args.result_dir / "ckpt" / f"{name}.pth"
    if not path.is_file():
        raise InputError(f"{path} is missing: run train_{name}, or give --{flag} FILE")
    return path


def start_of(args: Args, stage: str, require: Callable[..., None]) -> tuple[str, Path | None]:
    """-> name of the backbone, and its weights; None for ImageNet's. require: net.weights.require_network.

    Of a stage (a prefix of flags) of the segmentation branch: its own network, or train_seam's; its own weights (the
    word seam: the network that train_seam left), or those that train_seam starts from where the backbone is the same.
    """
    own, weights = getattr(args, f"{stage}_network"), getattr(args, f"{stage}_weights")
    name = own or args.seam_network
    if weights == "seam":
        weights = trained_file(args, "seam", f"{stage}_weights")
    weights = Path(weights) if weights else args.seam_weights if name == args.seam_network else None
    require(name, f"--{stage if own else 'seam'}_network", f"--{stage}_weights", weights)
    return name, weights


def require_files(paths: Sequence[Path], what: str, made_by: str) -> None:
    """Raises InputError, which names one, where some are missing, and the pass that makes them."""
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(f"{len(missing)} {what} are missing, {missing[0]} for one: run {made_by} (--{made_by}_pass)")
