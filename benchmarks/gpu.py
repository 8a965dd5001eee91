"""python -m benchmarks.gpu --images FOLDER [--device cuda] [--side 448] [--batch 8] [--repeats 20] [--deterministic]

Run it from the root of the repository. A table of what the passes take on a device: start (what the first run of a
network over the folder takes more than the second: plans, kernels, memory), images/s and the largest memory of tensors.
Maps by run_sample.py's make_cam with efficientnet_lite2 and resnet50 (random weights where none are at hand), both
labels by their commands, a training step of SEAM with both of HFPL's losses on random pixels, AffinityNet's and
DeepLab's. Reading and writing are in the figures of the commands, not in those of the steps.
"""

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

import net
import run_sample
import run_slic
from data.datasets import DATASETS
from misc.errors import InputError
from misc.files.images import find_images
from misc.run.device import autocast, facts_of, memory_format, pick_device, training_type
from misc.run.passes import run_passes
from net.network import Fixed, NetFacts
from net.weights import load, save_checkpoint
from pgt.losses import SEAMWeights
from run_voc import Aff, Seam, Seg
from step.train_aff import AffTask
from step.train_seam import SeamTask
from step.train_seg import SegTask

Row = tuple[str, str, str, str]


def command(script, argv: list[object]) -> float:
    """Seconds of one run, without what it prints."""
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        if run_passes(script.PASSES, lambda: script.parse([*map(str, argv), "--quiet"])):
            raise InputError(f"{script.__name__} failed: {argv}")
    return time.perf_counter() - start


def only(script, *passes: str) -> list[str]:
    return [f"--{name}={name in passes}" for name in script.PASSES if name != "export"]


def gib(device: torch.device) -> str:
    if not facts_of(device).several:
        return "-"
    module = torch.get_device_module(device)
    peak = module.max_memory_allocated(device) / 2**30
    module.reset_peak_memory_stats(device)
    return f"{peak:.1f}"


def weights_of(name: str, folder: Path) -> Path | None:
    """None where ImageNet's are at hand, else a file of random ones: as fast."""
    try:
        load(name, None, folder, progress=False)
        return None
    except InputError:
        save_checkpoint(folder / f"{name}.pth", net.build(name, 1000, layout="imagenet", head="softmax"))
        return folder / f"{name}.pth"


def commands(images: Path, device: torch.device, name: str, folder: Path) -> Iterator[Row]:
    result, num = folder / name, len(find_images(images, "--images"))
    where = ["--sal_dataset_dir", images, "--result_dir", result, "--device", device, "--overwrite"]
    network = ["--cam_network", name]
    if (weights := weights_of(name, folder)) is not None:
        network += ["--cam_weights_dir", weights]
    cams = [*where, *network, *only(run_sample, "make_cam_pass")]
    first, again = command(run_sample, cams), command(run_sample, cams)
    yield f"make_cam, {name}", f"{max(0, first - again):.1f}", f"{num / again:.1f}", gib(device)
    seconds = command(run_sample, [*where, *only(run_sample, "make_label_pass")])
    yield f"make_label, maps of {name}", "-", f"{num / seconds:.1f}", gib(device)
    slic = ["--result_dir", result, "--device", device, "--overwrite", *only(run_slic, "make_slic_pass")]
    seconds += (last := command(run_slic, slic))
    yield f"run_slic, maps of {name}", "-", f"{num / last:.1f}", gib(device)
    yield f"maps and both labels, {name}", "-", f"{num / (again + seconds):.1f}", "-"


TASKS: dict[str, tuple[str, Callable[[net.Network], object]]] = {
    "SEAM + ISL + FSL": ("seam", lambda n: SeamTask(n, None, Seam(), SEAMWeights())),
    "AffinityNet": ("affinity", lambda n: AffTask(n, None, (), Aff())),
    "DeepLab": ("largefov", lambda n: SegTask(n, None, (), DATASETS["voc12"], Seg())),
}


def step_row(what: str, name: str, device: torch.device, args: argparse.Namespace) -> Row:
    """A step as misc.train.loop makes it: forward in the type of the device, backward, SGD."""
    head, make = TASKS[what]
    network = net.build_from(NetFacts(name, 0 if head == "affinity" else 20, head=head))
    network.fix(Fixed(network.backbone.early_layers, norms=True))
    task = make(network.to(device, memory_format=memory_format(network, device)))
    network.train()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 1e-6)
    dtype, batch = training_type(device, network.wide), batch_of(head, device, args)
    scaler, seconds = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16), []
    for _ in range(args.repeats + 3):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, dtype):
            loss = task.loss(*batch)["loss"]
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        loss.item()  # waits for the device
        seconds.append(time.perf_counter() - start)
    median = sorted(seconds[3:])[args.repeats // 2]
    kind = str(dtype or torch.float32).removeprefix("torch.")
    what = f"{what}, {name}, {args.batch} x {args.side}, {kind}"
    return what, f"{sum(seconds[:3]) - 3 * median:.1f}", f"{args.batch / median:.1f}", gib(device)


def batch_of(head: str, device: torch.device, args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    n, side = args.batch, args.side
    image = torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, device=device)
    if head == "seam":
        return image, torch.nn.functional.one_hot(torch.arange(n) % 20, 20).float().to(device)
    side = -(-side // 8) if head == "affinity" else side
    return image, torch.randint(0, 3, (n, side, side), dtype=torch.uint8, device=device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--cams", nargs="*", default=["efficientnet_lite2", "resnet50"])
    parser.add_argument("--steps", nargs="*", default=["resnet38", "resnet50"])
    for name, value in (("side", 448), ("batch", 8), ("repeats", 20)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--deterministic", action="store_true")
    args = parser.parse_args()
    device = pick_device(args.device, args.deterministic)
    print(torch.get_device_module(device).get_device_name(device) if facts_of(device).several else device)
    print("| pass | start, s | images/s | GiB |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in args.cams:
            for row in commands(args.images, device, name, Path(folder)):
                print(f"| {' | '.join(row)} |", flush=True)
    for name in args.steps:
        for what in TASKS:
            print(f"| {' | '.join(step_row(what, name, device, args))} |", flush=True)


if __name__ == "__main__":
    main()
