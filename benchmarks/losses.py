"""python -m benchmarks.losses [--grids 28 56] [--batch 8] [--channels 21] [--repeats 5]

Run it from the root of the repository. Feature similarity (pgt/losses.py, windowed, mu 2.5, sigma 5) against the
straightforward form, which holds (hw)^2 matrices of all pairs of pixels, and the parts of SEAM's loss beside them; all
forward and backward, one thread, on photographs and smooth random maps of every class.

Times: all forms in turn in one process, medians of the times and of the ratios of each turn. Memory (Linux): each form
once more in a process of its own, how far the peak of its resident memory lies above what it held before.
"""

import argparse
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from skimage import data
from torch import Tensor

from pgt import losses


def all_pairs(image: Tensor, cam: Tensor, mu: float = 2.5, sigma: float = 5.0) -> Tensor:
    """The baseline; an image of the size of the maps."""
    n, channels, h, w = image.shape
    colours, scores = (maps.flatten(2).transpose(1, 2).contiguous() for maps in (image, cam))
    grid = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    place = torch.stack(grid, -1).view(1, -1, 2).float()
    near = torch.exp(-0.5 * (torch.cdist(place, place) / sigma) ** 2) / (2 * math.pi * sigma**2)
    distance = (torch.cdist(colours, colours, p=1) / channels).clamp(0, 1)
    unlike = torch.tanh(mu + torch.log((distance + 1e-5) / (1 - distance + 1e-5)))
    return -(near * (0.5 * torch.cdist(scores, scores) ** 2) * unlike).sum() / (n * h * w)


def resize(maps: Tensor, size: int) -> Tensor:
    return F.interpolate(maps, (size, size), mode="bilinear", align_corners=True)


def inputs(grid: int, batch: int, channels: int) -> tuple[Tensor, Tensor]:
    """Photographs and their mirror images in 0..1, smooth maps with their background."""
    pictures = [data.coffee(), data.chelsea(), data.astronaut(), data.rocket()]
    planes = [resize(torch.from_numpy(p).permute(2, 0, 1)[None].float() / 255, grid) for p in pictures]
    planes += [p.flip(-1) for p in planes]
    coarse = torch.rand(batch, channels - 1, 7, 7, generator=torch.Generator().manual_seed(0))
    return torch.cat([planes[i % 8] for i in range(batch)]), losses.with_background(resize(coarse, grid))


def forms(image: Tensor, cam: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
    """name -> loss of the maps; the parts of SEAM at the size they have in training, 0.3 of the image."""
    other = cam.flip(-1)
    return {
        "FSL, all pairs": lambda cam: all_pairs(image, cam),
        "FSL, windowed": lambda cam: losses.feature_similarity_loss(image, cam),
        "ISL": lambda cam: losses.importance_sampling(cam).square().mean(),
        "ER": lambda cam: losses.er_loss(cam[:, 1:], other[:, 1:]),
        "ECR": lambda cam: losses.ecr_loss(other, cam),
    }


def run(loss: Callable[[Tensor], Tensor], cam: Tensor) -> tuple[float, Tensor]:
    """-> value and gradient."""
    leaf = cam.clone().requires_grad_()
    value = loss(leaf)
    value.backward()
    return value.item(), leaf.grad


def resident(which: str) -> float:
    """MiB of memory that this process holds (VmRSS), or has held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) / 1024


def measure_memory(args: argparse.Namespace, grid: int) -> float:
    """Runs one form, on a small grid first so that what torch sets up at first use is not counted."""
    image, cam = inputs(8, args.batch, args.channels)
    run(forms(image, cam)[args.only], cam)
    image, cam = inputs(grid, args.batch, args.channels)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
    before = resident("VmRSS")
    run(forms(image, cam)[args.only], cam)
    return resident("VmHWM") - before


def memory_of(name: str, args: argparse.Namespace, grid: int) -> float:
    command = [sys.executable, "-m", "benchmarks.losses", "--only", name, "--grids", str(grid)]
    command += ["--batch", str(args.batch), "--channels", str(args.channels)]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # freed tensors go back to the system at once
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def table(args: argparse.Namespace, grid: int) -> None:
    image, cam = inputs(grid, args.batch, args.channels)
    ways = forms(image, cam)
    results = {name: run(loss, cam) for name, loss in ways.items()}
    times = np.array([[seconds(lambda: run(loss, cam)) for loss in ways.values()] for _ in range(args.repeats)])  # noqa: B023
    memory = [memory_of(name, args, grid) for name in ways]
    setting = f"{grid} x {grid}, batch {args.batch}, {args.channels} channels, forward and backward, 1 thread"
    print(f"{setting}, medians of {args.repeats} turns")
    print(f"{'loss':20}{'ms':>9}{'speed-up':>10}{'peak MiB':>10}{'less':>8}")
    for i, name in enumerate(ways):
        figures = f"{name:20}{np.median(times[:, i]) * 1e3:9.1f}{{:10.1f}}{memory[i]:10.1f}{{:8.1f}}"
        print(figures.format(np.median(times[:, 0] / times[:, i]), memory[0] / max(memory[i], 0.1)))
    (value, grad), (windowed, windowed_grad) = results["FSL, all pairs"], results["FSL, windowed"]
    off = float((windowed_grad - grad).norm() / grad.norm())
    print(f"windowed against all pairs: value {abs(windowed / value - 1):.1e}, gradient {off:.1e} of its norm\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grids", type=int, nargs="+", default=(28, 56), help="rows and columns of the maps")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--channels", type=int, default=21)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.only:
        print(measure_memory(args, args.grids[0]))
        return
    for grid in args.grids:
        table(args, grid)


if __name__ == "__main__":
    main()
