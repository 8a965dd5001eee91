"""Multi-scale CAM inference against the plain way, in one run, in turn, each in processes of its own.

    python -m benchmarks.make_cam --cam_network efficientnet_lite2
    python -m benchmarks.make_cam --cam_network resnet50 --num_classes 20

Plain: batch norms as they are, contiguous tensors, and a map per class brought to a quarter of the image before classes
are summed. Both use float32 and a batch of the image and its mirror. Without --num_classes the network has its ImageNet
weights; with it, random ones (times do not depend on them).
"""

import argparse
import functools
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from skimage import data
from torch.nn.functional import interpolate

import net
from misc.run.device import pick_device
from misc.run.memory import settle_memory
from net.efficientnet_lite import SamePadConv2d
from net.weights import load
from pgt.cam import CAMNet, mirrored, multi_scale_saliency, pyramid, quarter_size, unmirror


def pad_then_convolve(conv: SamePadConv2d, x: torch.Tensor) -> torch.Tensor:
    """TensorFlow's "same" padding as everybody writes it."""
    pads = []
    for size, k, s in zip(x.shape[:1:-1], conv.kernel_size, conv.stride, strict=True):
        total = max((math.ceil(size / s) - 1) * s + k - size, 0)
        pads += [total // 2, total - total // 2]
    x = torch.nn.functional.pad(x, pads)
    return torch.nn.functional.conv2d(x, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)


@torch.inference_mode()
def plain_saliency(net: CAMNet, image: np.ndarray, scales: Sequence[float]) -> torch.Tensor:
    """image (H,W,3) uint8 RGB -> saliency (h,w) in [0,1] at a quarter of its size, of a map per class."""
    logits, cam = 0, 0
    for scale in scales:
        logit, maps = net.cam(mirrored(pyramid(image, [scale])).to(net.device))
        logits = logits + logit.mean(0) / len(scales)
        cam = cam + interpolate(unmirror(maps.relu()), quarter_size(image.shape), mode="bilinear")[0]
    saliency = torch.tensordot(net.probabilities(logits), cam, 1)
    return saliency / (saliency.max() + 1e-5)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cam_network", default="efficientnet_lite2")
    parser.add_argument("--num_classes", type=int)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each way, in turn, with 5 maps each")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=("plain", "ours"), help=argparse.SUPPRESS)
    return parser.parse_args()


def ways(args: argparse.Namespace) -> dict[str, Callable[[], torch.Tensor]]:
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device, image, scales = pick_device(args.device), data.chelsea(), (1.0, 0.5, 1.5, 2.0)
    if args.num_classes:
        plain_net = net.build(args.cam_network, args.num_classes).eval().requires_grad_(False).to(device)
    else:
        plain_net = load(args.cam_network, None, Path("result/weights"))[0].requires_grad_(False).to(device)
    fast_net = net.for_inference(plain_net)
    for module in plain_net.modules():
        if isinstance(module, SamePadConv2d):
            module.forward = functools.partial(pad_then_convolve, module)

    return {
        "plain": lambda: plain_saliency(plain_net, image, scales),
        "ours": lambda: multi_scale_saliency(fast_net, [image], scales)[0],
    }


def measure(args: argparse.Namespace) -> None:
    """Prints the median seconds of one way, in a process of its own, set up as make_cam or as any script."""
    if args.only == "ours":
        settle_memory()
    fn, seconds = ways(args)[args.only], []
    for _ in range(7):
        started = time.perf_counter()
        fn().cpu()  # waits for the device
        seconds.append(time.perf_counter() - started)
    print(statistics.median(seconds[2:]))


def main() -> None:
    args = parse()
    if args.only:
        return measure(args)
    both = ways(args)
    difference = (both["plain"]() - both["ours"]()).abs().max().item()
    command = [sys.executable, "-m", "benchmarks.make_cam", *sys.argv[1:], "--only"]
    times: dict[str, list[float]] = {name: [] for name in both}
    for _ in range(args.rounds):
        for name, seconds in times.items():
            seconds.append(float(subprocess.run([*command, name], capture_output=True, text=True, check=True).stdout))
    ratio = statistics.median(o / p for p, o in zip(times["plain"], times["ours"], strict=True))
    p, o = (statistics.median(seconds) for seconds in times.values())
    print(f"{args.cam_network}, chelsea (451x300), {args.threads} threads, {args.rounds} rounds in turn")
    print(f"plain {p:.3f} s, ours {o:.3f} s: {ratio:.0%} of its time")
    print(f"largest difference of the saliency maps (0..1): {difference:.1e}")


if __name__ == "__main__":
    main()
