"""python -m benchmarks.toy_table [--out result/toy_table] [--seeds 0 1 2] [--methods plain seam hfpl] [-- more flags]

Run it from the root of the repository. The toy set (run_voc.py --toy), mIoU and contour F in percent, mean and spread
(highest - lowest) over the seeds of the training: class activation maps at the best background threshold of a plain CAM
network, of SEAM, and of SEAM with HFPL's losses; of the last also the pseudo labels, and the final network on images
it has not seen. What follows -- goes to run_voc.py. A run that is done is not redone.
"""

import argparse
import sys
import time
from pathlib import Path

import run_voc
from misc.files.store import read_json, write_json
from misc.run.passes import run_passes
from run_voc import PASSES

STAGES = {"cam": "CAM", "sem_seg": "pseudo label", "seg": "final"}
MEASURES = ("miou", "contour_f")
SPLITS = ("train", "val")
FIRST_HALF = ("train_seam_pass", "make_cam_pass", "eval_cam_pass")
WHOLE = "hfpl"


def scores_of(out: Path, method: str, seed: int, more: list[str]) -> dict:
    """stage -> split -> scores of one run, and its seconds."""
    folder = out / f"{method}_{seed}"
    done = folder / "scores.json"
    if not done.is_file():
        flags = ["--toy", "--quiet", "--tensorboard", "False", "--result_dir", str(folder)]
        flags += ["--method", method, "--seed", str(seed), *more]
        steps = [step for step in PASSES if method == WHOLE or step in FIRST_HALF]
        started = time.perf_counter()
        if run_passes({step: PASSES[step] for step in steps}, lambda: run_voc.parse(flags)):
            sys.exit(1)
        write_json(done, {**read_json(folder / "metrics.json"), "seconds": time.perf_counter() - started})
    return read_json(done)


def cell(values: list[float]) -> str:
    return f"{sum(values) / len(values):6.2f} ({max(values) - min(values):.2f})" if values else ""


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
    print(f"{'':20}" + "".join(f"{head:>18}" for head in heads))
    for method, runs in rows.items():
        for stage, title in STAGES.items():
            if stage in runs[0]:
                held = [[run[stage].get(split, {}) for run in runs] for split in SPLITS]
                cells = [cell([100 * s[m] for s in scores if m in s]) for scores in held for m in MEASURES]
                print(f"{method + ' ' + title:20}" + "".join(f"{text:>18}" for text in cells))
        print(f"{'':20}{cell([run['seconds'] for run in runs])} seconds")


if __name__ == "__main__":
    main()
