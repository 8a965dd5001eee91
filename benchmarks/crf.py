"""python -m benchmarks.crf [--size 300 400] [--repeats 9] [--images FOLDER] [--memory]

Run it from the root of the repository. pgt/crf/ against pydensecrf2 (benchmarks/requirements.txt) in one process and
one thread: A B A B, medians of the times and of the ratios of each turn, and how far the marginals are apart. "new
size" also builds the position lattice, which data sets of few sizes find in the cache. The torch column is the same
lattice in torch operations. --memory adds the peak on 4000x3000 with 2 labels. The last lines time a new process's
first calls: with nothing compiled before, and with the kernels in numba's cache.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

from benchmarks.peers import peer
from misc.run.evaluation import exit_status
from pgt.crf import CRF_RECIPES, CRFParams, mean_field, mean_field_torch, unary_from_prob
from pgt.crf.sweeps import position_lattice

CASES = [  # labels, iterations
    (2, 5),
    (2, 1),
    (3, 10),
    (5, 10),
    (21, 10),
    (81, 10),
]
FIRST_CALL = """
import time, numpy as np
started = time.perf_counter()
from pgt.crf import CRFParams, dense_crf
image = np.zeros((40, 40, 3), np.uint8)
for labels in (2, 3):
    dense_crf(image, np.full((labels, 40, 40), 1 / labels), CRFParams())
print(time.perf_counter() - started)
"""
PEAK = """
import resource, numpy as np
from PIL import Image
from skimage import data
from pgt.crf import CRFParams, mean_field
noise = np.random.default_rng(0).normal(0, {noise}, (3000, 4000, 3)).astype(np.float32)
image = np.clip(np.asarray(Image.fromarray(data.coffee()).resize((4000, 3000))) + noise, 0, 255).astype(np.uint8)
unary = np.random.default_rng(0).random((2, 3000, 4000), np.float32)
mean_field(image[:40, :40], unary[:, :40, :40], CRFParams())
del noise
open("/proc/self/clear_refs", "w").write("5")  # the peak counts from here
status = lambda key: int(next(l for l in open("/proc/self/status") if l.startswith(key)).split()[1]) / 1024
before = status("VmRSS")
mean_field(image, unary, CRFParams(num_iter=5))
print(status("VmHWM") - before)
"""


def pydensecrf_mean_field(image: np.ndarray, unary: np.ndarray, params: CRFParams) -> np.ndarray:
    """The peer; a recipe with the features in the order x, y, r, g, b."""
    densecrf = peer("pydensecrf.densecrf", "pydensecrf2")
    labels, height, width = unary.shape
    crf = densecrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(unary.reshape(labels, -1))
    crf.addPairwiseGaussian(sxy=params.gaussian_sxy, compat=params.gaussian_compat)
    crf.addPairwiseBilateral(
        sxy=params.bilateral_sxy, srgb=params.bilateral_srgb, rgbim=image, compat=params.bilateral_compat
    )
    return np.array(crf.inference(params.num_iter), np.float32).reshape(unary.shape)


def new_size(image: np.ndarray, unary: np.ndarray, params: CRFParams) -> np.ndarray:
    position_lattice.cache_clear()
    return mean_field(image, unary, params)


def torch_mean_field(image: np.ndarray, unary: np.ndarray, params: CRFParams) -> np.ndarray:
    torch.set_num_threads(1)
    batch = torch.from_numpy(image).permute(2, 0, 1)[None], torch.from_numpy(unary)[None]
    return mean_field_torch(*batch, params)[0].numpy()


def photographs(folder: Path | None, size: list[int]) -> list[np.ndarray]:
    """Four photographs of one size, of a folder or of scikit-image."""
    if folder:
        found = [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.jpg"))[:4]]
    else:
        found = [Image.fromarray(picture()) for picture in (data.coffee, data.chelsea, data.astronaut, data.rocket)]
    return [np.array(picture.resize(size[::-1], Image.Resampling.LANCZOS)) for picture in found]


def soft_unary(labels: int, height: int, width: int, seed: int) -> np.ndarray:
    """Energies (C, H, W) of smooth random probabilities."""
    coarse = np.random.default_rng(seed).dirichlet(np.ones(labels), (height // 20, width // 20)).astype(np.float32)
    planes = [Image.fromarray(coarse[..., c]).resize((width, height), Image.Resampling.BILINEAR) for c in range(labels)]
    return unary_from_prob(np.stack([np.asarray(plane) for plane in planes]))


def compare(labels: int, num_iter: int, images: list[np.ndarray], repeats: int) -> str:
    params = CRFParams(num_iter=num_iter)
    ways = [pydensecrf_mean_field, mean_field, new_size, torch_mean_field]
    seconds = {way: [] for way in ways}
    apart, changed = [], []
    for turn in range(repeats + 1):
        image = images[turn % len(images)]
        unary = soft_unary(labels, *image.shape[:2], seed=turn)
        results = []
        for way in ways:
            started = time.perf_counter()
            results.append(way(image, unary, params))
            if turn:
                seconds[way].append(time.perf_counter() - started)
        apart.append(np.abs(results[0] - results[1]).mean())
        changed.append((results[0].argmax(0) != results[1].argmax(0)).mean())
    peer = np.array(seconds[pydensecrf_mean_field])
    cells = [f"{labels:6} {num_iter:5} {1000 * np.median(peer):11.1f}"]
    for way in ways[1:]:
        ours = np.array(seconds[way])
        cells.append(f"{1000 * np.median(ours):9.1f} {np.median(peer / ours):5.2f}")
    return "  ".join([*cells, f"{np.mean(apart):8.1e} {100 * np.mean(changed):7.4f} %"])


def in_new_process(code: str, **environment: str) -> float:
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    return float(result.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, nargs=2, default=[300, 400], help="height and width of the pictures")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--images", type=Path, help="a folder of .jpg pictures instead of scikit-image's")
    parser.add_argument("--memory", action="store_true", help="measure the peak on 4000x3000 (Linux)")
    args = parser.parse_args()
    peer("pydensecrf.densecrf", "pydensecrf2")
    images = photographs(args.images, args.size)
    print(f"{args.size[0]}x{args.size[1]}, {CRF_RECIPES['wsss_cam']}")
    print("labels  iter  pydensecrf    pgt.crf ratio  new size ratio     torch ratio   mean |d| labels changed")
    for labels, num_iter in CASES:
        print(compare(labels, num_iter, images, args.repeats), flush=True)
    if args.memory:
        for noise in (0, 20):
            peak = in_new_process(PEAK.format(noise=noise))
            print(f"peak on 4000x3000, 2 labels, noise of {noise} grey levels: {peak:.0f} MiB, result included")
    with tempfile.TemporaryDirectory() as cache:
        for state in ("nothing compiled", "from the cache"):
            print(f"first calls, {state}: {in_new_process(FIRST_CALL, NUMBA_CACHE_DIR=cache):.1f} s")


if __name__ == "__main__":
    sys.exit(exit_status(main))
