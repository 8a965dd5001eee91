"""Steps of training a CAM network against a plain loop, in one run, in turn.

    python -m benchmarks.train_cam --cam_network efficientnet_lite0 --crop 224

Plain: the same network, losses, optimiser, fixed layers and changes of the images; images are read between the steps,
and tensors and weights lie in memory as PyTorch makes them. Times do not depend on the weights, which are random.
"""

import argparse
import copy
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data
from torch.nn import functional as F

import net
from misc.files.images import read_image
from misc.run.device import autocast, pick_device, training_type
from misc.run.memory import settle_memory
from misc.run.parallel import parallel_map
from net.fast.for_training import for_training
from run_sample import TrainCam
from step.train_cam import augmented


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cam_network", default="efficientnet_lite0")
    parser.add_argument("--crop", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3, help="steps per turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def write_images(folder: Path) -> list[Path]:
    files = []
    for name in ("chelsea", "coffee", "rocket", "astronaut"):
        Image.fromarray(getattr(data, name)()).save(folder / f"{name}.jpg", quality=92)
        files.append(folder / f"{name}.jpg")
    return files


def make_batch(files: list[Path], step: int, args: argparse.Namespace) -> torch.Tensor:
    recipe = TrainCam(crop_size=args.crop)
    rngs = [np.random.default_rng((step, i)) for i in range(args.batch)]
    images = [augmented(read_image(files[i % len(files)]), recipe, (127,) * 3, rng) for i, rng in enumerate(rngs)]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def train_step(network: net.Network, optimizer: torch.optim.Optimizer, img: torch.Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    with autocast(img.device, training_type(img.device, network.wide)):
        logits = network.cam(img)[0]
    F.cross_entropy(logits.float(), torch.arange(len(img), device=img.device) % 10).backward()
    optimizer.step()
    if img.device.type != "cpu":
        logits.sum().item()  # waits for the device


def main() -> None:
    args = parse()
    settle_memory()
    device = pick_device(args.device)
    torch.manual_seed(0)
    plain = net.build(args.cam_network, 10, layout="imagenet", head="softmax").to(device)
    plain.fix(plain.backbone.cam_fixed)
    ours = for_training(copy.deepcopy(plain).to(memory_format=torch.channels_last)).train()
    optimizers = {n: torch.optim.SGD([p for p in n.parameters() if p.requires_grad], 1e-3, 0.9) for n in (plain, ours)}
    with tempfile.TemporaryDirectory() as folder:
        files = write_images(Path(folder))

        def plain_turn(round_: int) -> None:
            for i in range(args.steps):
                batch = make_batch(files, round_ * args.steps + i, args).contiguous().to(device)
                train_step(plain, optimizers[plain], batch)

        def our_turn(round_: int) -> None:
            steps = range(round_ * args.steps, (round_ + 1) * args.steps)
            for _, batch in parallel_map(lambda step: make_batch(files, step, args), steps, 1, ahead=2):
                train_step(ours, optimizers[ours], batch.to(device, non_blocking=True))

        speeds = {plain_turn: [], our_turn: []}
        for round_ in range(args.rounds + 1):  # the first warms up
            for turn, kept in speeds.items():
                started = time.perf_counter()
                turn(round_)
                kept.append(args.steps * args.batch / (time.perf_counter() - started))
    p, o = (statistics.median(kept[1:]) for kept in speeds.values())
    ratio = statistics.median(b / a for a, b in list(zip(*speeds.values(), strict=True))[1:])
    print(f"{args.cam_network}, crop {args.crop}, batch {args.batch}, {device}, {torch.get_num_threads()} threads")
    print(f"plain {p:.1f} images/s, ours {o:.1f}: {ratio:.1f} times")


if __name__ == "__main__":
    main()
