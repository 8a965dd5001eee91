"""python -m benchmarks.toy_table [--out result/toy_table] [--seeds 0 1 2] [--methods plain seam hfpl] [-- more flags]

Run it from the root of the repository. Class activation maps on the toy set (run_voc.py --toy) of a plain CAM network,
of SEAM, and of SEAM with HFPL's losses: mIoU and contour F in percent at the best background threshold, mean and spread
(highest - lowest) over the seeds of the training. What follows -- goes to run_voc.py. A run that is done is not redone.
"""

import argparse
import sys
import time
from pathlib import Path

import run_voc
from misc.passes import run_passes
from misc.seg_args import PASSES
from misc.store import read_json, write_json

MEASURES = ("miou", "contour_f")
SPLITS = ("train", "val")
STEPS = ("train_seam_pass", "make_cam_pass", "eval_cam_pass")


def scores_of(out: Path, method: str, seed: int, more: list[str]) -> dict:
    """split -> scores of one run, and its seconds."""
    folder = out / f"{method}_{seed}"
    done = folder / "scores.json"
    if not done.is_file():
        flags = ["--toy", "--quiet", "--tensorboard", "False", "--result_dir", str(folder)]
        flags += ["--method", method, "--seed", str(seed), *more]
        started = time.perf_counter()
        if run_passes({step: PASSES[step] for step in STEPS}, lambda: run_voc.parse(flags)):
            sys.exit(1)
        seconds = time.perf_counter() - started
        write_json(done, {**read_json(folder / "metrics.json")["cam"], "seconds": seconds})
    return read_json(done)


def cell(values: list[float]) -> str:
    return f"{sum(values) / len(values):6.2f} ({max(values) - min(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("result/toy_table"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=["plain", "seam", "hfpl"])
    argv = sys.argv[1:]
    split = argv.index("--") if "--" in argv else len(argv)
    args, more = parser.parse_args(argv[:split]), argv[split + 1 :]
    rows = {m: [scores_of(args.out, m, seed, more) for seed in args.seeds] for m in args.methods}
    heads = [f"{measure} {split}" for split in SPLITS for measure in MEASURES]
    print(f"{'':8}" + "".join(f"{head:>18}" for head in [*heads, "seconds"]))
    for method, runs in rows.items():
        cells = [cell([run[split][measure] for run in runs]) for split in SPLITS for measure in MEASURES]
        print(f"{method:8}" + "".join(f"{text:>18}" for text in [*cells, cell([run["seconds"] for run in runs])]))


if __name__ == "__main__":
    main()
