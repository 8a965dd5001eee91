"""python -m benchmarks.random_walk [--size 60 80] [--channels 21] [--exp_times 6] [--repeats 3] [--threads 1]

Run it from the root of the repository. The random walk of pgt/affinity.py on a grid (height, width) against the dense
power of the transition matrix, as published, and against 2^exp_times products with a sparse matrix. The affinities are
those of a picture's colours. All run in turn in one process; medians of the times, and of the ratios of each turn.
Memory is what the first call at this size takes at its peak, each form in a process of its own, after a call on a small
grid (Linux only). Differences: to the dense power (float32) and to the sparse products in float64, largest of all.
"""

import argparse
import os
import re
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from skimage import data
from torch import Tensor
from torch.nn.functional import interpolate

from pgt.affinity import BETA, EXP_TIMES, RADIUS, pair_indices, random_walk

warnings.filterwarnings("ignore", "Sparse")  # torch's notice that these matrices are new


def make_input(size: tuple[int, int], channels: int) -> tuple[Tensor, Tensor]:
    """CAMs (channels, h, w) and the affinity (n_pairs, M) of the picture's colours at this size, float32."""
    picture = torch.from_numpy(data.coffee()).permute(2, 0, 1)[None] / 255
    colours = interpolate(picture, size, mode="bilinear", antialias=True)[0].flatten(1)
    start, end = pair_indices(RADIUS, size)
    affinity = torch.stack([torch.exp(-(colours[:, start] - colours[:, far]).abs().mean(0)) for far in end])
    return torch.rand((channels, *size), generator=torch.Generator().manual_seed(0)), affinity


def pair_entries(affinity: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Row and column (2,E), and value (E,), of all entries of the symmetric matrix, the diagonal among them."""
    start, end = pair_indices(RADIUS, size)
    pairs = torch.stack([start.expand_as(end).flatten(), end.flatten()])
    diagonal = torch.arange(size[0] * size[1]).expand(2, -1)
    values = torch.cat([affinity.flatten(), affinity.flatten(), affinity.new_ones(diagonal.shape[1])])
    return torch.cat([pairs, pairs.flip(0), diagonal], 1), values**BETA


def dense_power(cam: Tensor, affinity: Tensor, exp_times: int) -> Tensor:
    """The baseline."""
    (row, column), values = pair_entries(affinity, cam.shape[1:])
    matrix = cam.new_zeros(cam[0].numel(), cam[0].numel())
    matrix[row, column] = values
    matrix /= matrix.sum(0, keepdim=True)
    for _ in range(exp_times):
        matrix = matrix @ matrix
    return (cam.flatten(1) @ matrix).view(cam.shape)


def sparse_steps(cam: Tensor, affinity: Tensor, exp_times: int) -> Tensor:
    """One product with a compressed sparse row matrix a step."""
    entries, values = pair_entries(affinity, cam.shape[1:])
    n = cam[0].numel()
    matrix = torch.sparse_coo_tensor(entries, values, (n, n), check_invariants=True).to_sparse_csr()
    vectors, total = cam.flatten(1).T, matrix @ cam.new_ones(n, 1)  # symmetric: its rows are its columns
    for _ in range(2**exp_times):
        vectors = (matrix @ vectors) / total
    return vectors.T.reshape(cam.shape)


FORMS = {
    "dense power": dense_power,
    "sparse, step by step": sparse_steps,
    "random_walk (kernel)": lambda cam, affinity, exp_times: random_walk(cam, affinity, exp_times=exp_times),
}


def peak_memory(name: str, size: tuple[int, int], channels: int, exp_times: int, threads: int) -> float:
    """MB that the first call at this size adds to the process at its peak; NaN where the system does not tell."""
    torch.set_num_threads(threads)
    FORMS[name](*make_input((20, 20), channels), exp_times)
    cam, affinity = make_input(size, channels)
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return float("nan")
    reset.write_text("5")  # the high-water mark becomes what is in use now

    def peak() -> int:
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1])

    before = peak()
    FORMS[name](cam, affinity, exp_times)
    return (peak() - before) / 1024


def seconds(function, *args) -> float:
    started = time.perf_counter()
    function(*args)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=(60, 80), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--channels", type=int, default=21)
    parser.add_argument("--exp_times", type=int, default=EXP_TIMES)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    size = tuple(args.size)
    given = (*make_input(size, args.channels), args.exp_times)
    results = [form(*given) for form in FORMS.values()]
    exact = sparse_steps(given[0].double(), given[1].double(), args.exp_times)
    times = np.array([[seconds(form, *given) for form in FORMS.values()] for _ in range(args.repeats)])
    memory = []
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"  # new processes ask the system for each array anew
    for name in FORMS:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            memory.append(pool.submit(peak_memory, name, size, args.channels, args.exp_times, args.threads).result())

    print(f"grid {size[0]} x {size[1]}, {args.channels} channels, {2**args.exp_times} steps, threads: {args.threads}")
    print(f"medians of {args.repeats} turns")
    print(f"{'form':24}{'ms':>10}{'speed-up':>10}{'MB':>9}{'less':>7}{'to dense':>11}{'to float64':>12}")
    for i, (name, result) in enumerate(zip(FORMS, results, strict=True)):
        ratio, less = np.median(times[:, 0] / times[:, i]), memory[0] / memory[i]
        to_dense, to_exact = ((result - other).abs().max().item() for other in (results[0], exact))
        timing = f"{np.median(times[:, i]) * 1e3:10.1f}{ratio:10.1f}"
        print(f"{name:24}{timing}{memory[i]:9.1f}{less:7.1f}{to_dense:11.1e}{to_exact:12.1e}")


if __name__ == "__main__":
    main()
