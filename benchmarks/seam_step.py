"""python -m benchmarks.seam_step [--network efficientnet_lite0] [--side 224] [--batch 8] [--threads 1] [--repeats 5]

Run it from the root of the repository. A training step of SEAM with HFPL's losses (forward, loss, backward) as
step/train_seam.py makes it, against the straightforward one: the same network in PyTorch's default memory format, every
batch norm on its own, maps of all classes at the size of the image, FSL over all pairs of pixels. Random pixels, two or
three of 20 classes per image.

Steps in turn in one process, medians of the times, of images/s and of the ratios of each turn. On a machine that others
use, --clock process (processor time; with --threads 1) is steadier than the time on the wall.
"""

import argparse
import copy
import time

import torch
import torch.nn.functional as F
from torch import Tensor

import net
from benchmarks.losses import all_pairs
from misc.errors import InputError
from net.fast.for_training import for_training
from net.network import Fixed, resized
from net.weights import load_backbone
from pgt.losses import (
    SEAMWeights,
    adaptive_min_pooling_loss,
    ecr_loss,
    er_loss,
    importance_sampling,
    max_norm,
    multilabel_soft_margin,
    with_background,
)
from step.train_seam import two_view_loss

SCALE = 0.3
WEIGHTS = SEAMWeights()


def straightforward(network: net.SEAMNet, image: Tensor, label: Tensor) -> Tensor:
    """The loss as SEAM and HFPL describe it, step by step."""
    image = image.float().contiguous()
    small = F.interpolate(image, scale_factor=SCALE, mode="bilinear", align_corners=True)
    size, weight = small.shape[2:], F.pad(label, (1, 0), value=1)[..., None, None]
    cls, rvmin, maps, maps_rv = [], [], [], []
    for view in (image, small):
        cam, cam_rv, logits = network(view)
        cls.append(multilabel_soft_margin(cam.mean((2, 3))[:, 1:], label))
        rvmin.append(adaptive_min_pooling_loss((cam_rv * weight)[:, 1:]))
        maps.append(resized(max_norm(cam), size) * weight)
        maps_rv.append(resized(max_norm(cam_rv), size) * weight)
        if view is image:
            grid = logits
    isl = multilabel_soft_margin(importance_sampling(grid[:, 1:], WEIGHTS.isl_samples), label)
    cls[0] = (1 - WEIGHTS.isl_weight) * cls[0] + WEIGHTS.isl_weight * isl
    front = [m[:, 1:] for m in maps]
    ecr = ecr_loss(with_background(front[1]), maps_rv[0]) + ecr_loss(with_background(front[0]), maps_rv[1])
    score = with_background((max_norm(grid) * weight)[:, 1:])
    fsl = all_pairs(resized(image / 255, grid.shape[2:]), score, WEIGHTS.fsl_mu, WEIGHTS.fsl_sigma)
    return sum(cls) / 2 + sum(rvmin) / 2 + er_loss(*front) + ecr + WEIGHTS.fsl_weight * fsl


def make_network(name: str) -> net.SEAMNet:
    network = net.build(name, 20, head="seam")
    try:
        load_backbone(network, None, False)
    except InputError:
        print(f"random weights: none of {name} at hand")
    network.fix(Fixed(network.backbone.early_layers, norms=True))
    return network.train()


def make_batch(args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    image = torch.randint(0, 256, (args.batch, args.side, args.side, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    label = torch.zeros(args.batch, 20)
    for i in range(args.batch):
        label[i, [i % 20, 14, (3 * i + 5) % 20]] = 1
    return image, label


def forms(args: argparse.Namespace) -> dict:
    """name -> (network, loss of it)."""
    plain = make_network(args.network)
    ours = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    image, label = make_batch(args)
    twin = for_training(ours).train()
    return {
        "straightforward": (plain, lambda: straightforward(plain, image, label)),
        "train_seam": (ours, lambda: two_view_loss(twin, image, label, WEIGHTS, SCALE)["total"]),
    }


def step(network, loss, clock) -> tuple[float, float]:
    """-> seconds, loss."""
    torch.manual_seed(0)
    network.zero_grad(set_to_none=True)
    start = clock()
    value = loss()
    value.backward()
    return clock() - start, value.item()


def gradients_differ(pair) -> float:
    """Greatest difference of a weight's gradient over that gradient's greatest value."""
    a, b = (dict(network.named_parameters()) for network, _ in pair)
    shared = [name for name in a if a[name].grad is not None]
    return max(((a[n].grad - b[n].grad).abs().max() / a[n].grad.abs().max().clamp(min=1e-12)).item() for n in shared)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="efficientnet_lite0")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=("wall", "process"), default="wall")
    args = parser.parse_args()
    clock = {"wall": time.perf_counter, "process": time.process_time}[args.clock]
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    found = forms(args)
    losses = {name: step(*form, clock)[1] for name, form in found.items()}  # also warms up
    difference = gradients_differ(list(found.values()))
    turns = [{name: step(*form, clock)[0] for name, form in found.items()} for _ in range(args.repeats)]
    print(f"{args.network}, {args.batch} images of {args.side}, {args.threads} thread(s), {args.clock} time")
    for name in found:
        seconds = sorted(turn[name] for turn in turns)[args.repeats // 2]
        print(f"{name:16} {1000 * seconds:7.0f} ms  {args.batch / seconds:6.2f} images/s  loss {losses[name]:.6f}")
    ratio = sorted(turn["straightforward"] / turn["train_seam"] for turn in turns)[args.repeats // 2]
    print(f"times as fast: {ratio:.2f}; gradients differ by {difference:.1e} of their greatest value")


if __name__ == "__main__":
    main()
