"""Superpixel-wise pseudo labels from class activation maps (generatePGT).

    python run_slic.py                                              for what run_sample.py has just made
    python run_slic.py --img_root DUTS-TR --prob_root result/cam    for any folder of images and their maps
    python run_slic.py --slic_recipe published                      the published superpixels and factors

Edit the defaults below, or give flags; `python run_slic.py --help` explains them all.
"""

import argparse
import sys
from pathlib import Path

from misc.files.store import read_json
from misc.run.flags import Flags, add_eval_flags, add_run_flags, add_slic_flags
from misc.run.passes import run_passes

ROOT = Path(__file__).resolve().parent

DEFAULTS = {
    "make_slic_pass": True,
    "eval_pass": True,
    "overview_pass": True,
    "report_pass": True,
    "export": None,
    # folders
    "img_root": None,
    "prob_root": None,
    "output_root": None,
    "mask_dir": None,
    "max_side": 1024,
    # superpixels
    "slic_recipe": "default",
    "slic_segments": None,
    "slic_compactness": None,
    "slic_lab": None,
    "slic_high": None,
    "slic_low": None,
    # dense CRF
    "slic_crf": True,
    "slic_crf_num_iter": None,
    "slic_crf_gaussian_sxy": None,
    "slic_crf_gaussian_compat": None,
    "slic_crf_bilateral_sxy": None,
    "slic_crf_bilateral_srgb": None,
    "slic_crf_bilateral_compat": None,
    # run
    "overview_rows": 12,
    "export_threshold": 0.5,
    "result_dir": ROOT / "result",
    "limit": None,
    "num_workers": 0,
    "overwrite": False,
    "quiet": False,
}

PASSES = {
    "make_slic_pass": "step.make_slic",
    "eval_pass": "step.eval",
    "overview_pass": "step.overview",
    "report_pass": "step.report",
    "export": "step.export",
}


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    flags = Flags(__doc__, DEFAULTS)
    for add in (add_slic_flags, add_eval_flags, add_run_flags):
        add(flags)
    args = flags.parse(argv)
    last = read_json(args.result_dir / "args.json").get("args", {})
    args.sal_dataset_dir = args.img_root or Path(last.get("sal_dataset_dir") or ROOT / "data" / "sample")
    args.cam_out_dir = args.prob_root or Path(last.get("cam_out_dir") or args.result_dir / "cam")
    args.cam_pamr_out_dir = None
    args.cam_slic_out_dir = args.output_root or args.result_dir / "cam_slic"
    if args.img_root is None and args.limit is None:
        args.limit = last.get("limit")
    return args


if __name__ == "__main__":
    sys.exit(run_passes(PASSES, parse, "args_slic.json"))
