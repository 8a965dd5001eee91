"""python -m benchmarks.pamr [--size 300 400] [--repeats 7] [--image FILE]

Run it from the root of the repository. PAMR (pgt/pamr.py) against the straightforward form: 48 one-hot shift
kernels by conv2d in every iteration. One mask channel, 10 iterations, one thread. All run in turn in one
process; medians of the times, and of the ratios of each turn. The last lines time a new process's first call:
with nothing compiled before, and with the kernels in numba's cache.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pgt.pamr import DILATIONS, NUM_ITER, pamr, pamr_numpy

FIRST_CALL = """
import time, numpy as np
started = time.perf_counter()
from pgt.pamr import pamr_numpy
imported = time.perf_counter()
pamr_numpy(np.ones((3, 8, 8)), np.ones((1, 8, 8)))
print(imported - started, time.perf_counter() - imported)
"""


def shifted_by_conv(planes: Tensor, kernels: Tensor) -> Tensor:
    """(N,C,h,w) -> (N,C,n,h,w): every plane moved by each one-hot 3x3 kernel at each dilation."""
    batch, channels, height, width = planes.shape
    planes = planes.reshape(-1, 1, height, width)
    moved = [F.conv2d(F.pad(planes, (d,) * 4, mode="replicate"), kernels, dilation=d) for d in DILATIONS]
    return torch.cat(moved, 1).view(batch, channels, -1, height, width)


def conv_pamr(image: Tensor, mask: Tensor) -> Tensor:
    """The baseline; a mask of the image's size."""
    kernels = torch.eye(9).view(9, 1, 3, 3)
    ring = kernels[torch.arange(9) != 4]
    std = shifted_by_conv(image, kernels).std(2, keepdim=True)
    distance = (shifted_by_conv(image, ring) - image.unsqueeze(2)).abs() / (1e-8 + 0.1 * std)
    weights = (-distance).mean(1, keepdim=True).softmax(2)
    for _ in range(NUM_ITER):
        mask = (shifted_by_conv(mask, ring) * weights).sum(2)
    return mask


def first_call(cache_dir: str) -> tuple[float, float]:
    """Seconds of a new process to import pgt.pamr, and for its first call."""
    environment = os.environ | {"NUMBA_CACHE_DIR": cache_dir}
    command = [sys.executable, "-c", FIRST_CALL]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    imported, called = output.split()
    return float(imported), float(called)


def seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(300, 400), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--image", help="a picture (default: scikit-image's coffee)")
    args = parser.parse_args()
    torch.set_num_threads(1)

    if args.image:
        picture = Image.open(args.image).convert("RGB")
    else:
        from skimage import data

        picture = Image.fromarray(data.coffee())
    array = np.asarray(picture.resize(args.size[::-1]), np.float32).transpose(2, 0, 1)
    image = torch.from_numpy(np.ascontiguousarray(array))[None]
    mask = torch.from_numpy(np.random.default_rng(0).random((1, 1, *args.size), dtype=np.float32))

    forms = {
        "conv2d, float32": lambda: conv_pamr(image, mask),
        "pamr, float32 (kernels)": lambda: pamr(image, mask),
        "pamr_numpy": lambda: torch.from_numpy(pamr_numpy(image[0].numpy(), mask[0].numpy()))[None],
        "pamr, float64 (plain torch)": lambda: pamr(image.double(), mask.double()),
    }
    results = {name: form() for name, form in forms.items()}
    times = np.array([[seconds(form) for form in forms.values()] for _ in range(args.repeats)])
    setting = f"{args.size[0]} x {args.size[1]}, 1 mask channel, {NUM_ITER} iterations, 1 thread"
    print(f"{setting}, medians of {args.repeats} turns")
    print(f"{'form':30}{'ms':>9}{'speed-up':>10}{'max difference':>16}")
    baseline = next(iter(results.values()))
    for i, (name, result) in enumerate(results.items()):
        ratio = np.median(times[:, 0] / times[:, i])
        difference = float((result - baseline).abs().max())
        print(f"{name:30}{np.median(times[:, i]) * 1e3:9.1f}{ratio:10.1f}{difference:16.1e}")
    with tempfile.TemporaryDirectory() as cache_dir:
        for state in ("nothing compiled", "kernels in the cache"):
            imported, called = first_call(cache_dir)
            print(f"new process, {state}: import {imported:.2f} s, first call {called:.2f} s")


if __name__ == "__main__":
    main()
