"""Class activation maps and pixel-wise pseudo labels for a folder of images, without masks (generatePGT).

    python run_sample.py                                    the sample pictures that come with scikit-image
    python run_sample.py --sal_dataset_dir DUTS-TR          your own folder
    python run_sample.py --train_cam_pass --cls_dataset_dir my_photos    the network trained first, on a folder a class
    python run_sample.py --make_cam_pass False              the labels alone, from the maps that are there
    python run_slic.py                                      afterwards: the superpixel-wise labels

Edit the defaults below, or give flags; `python run_sample.py --help` explains them all.
"""

import sys
from pathlib import Path

from misc.run.flags import (
    Flags,
    add_cam_flags,
    add_device_flags,
    add_eval_flags,
    add_label_flags,
    add_run_flags,
    add_train_cam_flags,
    add_train_flags,
)
from misc.run.passes import run_passes

ROOT = Path(__file__).resolve().parent

DEFAULTS = {
    # passes
    "train_cam_pass": False,
    "make_cam_pass": True,
    "make_label_pass": True,
    "eval_pass": True,
    "overview_pass": True,
    "report_pass": True,
    "export": None,
    # images and weights
    "sal_dataset_dir": ROOT / "data" / "sample",
    "mask_dir": None,
    "cam_network": None,
    "cam_weights_dir": None,
    # training of the CAM network
    "cls_dataset_dir": None,
    "cls_layout": "auto",
    "cls_val_dir": None,
    "cls_val_boxes": None,
    "cls_val_masks": None,
    "cam_recipe": "default",
    "no_pretrained": False,
    "cam_init_weights": None,
    "cam_layout": None,
    "cam_crop_size": None,
    "cam_batch_size": None,
    "cam_num_epoches": None,
    "cam_num_steps": None,
    "cam_optimizer": None,
    "cam_learning_rate": None,
    "cam_head_factor": None,
    "cam_momentum": None,
    "cam_weight_decay": None,
    "cam_schedule": None,
    "cam_warm_up": None,
    "cam_clip": None,
    "cam_ema": None,
    "accumulate": 1,
    "cam_loss": None,
    "cam_label_smoothing": None,
    "cam_augment": None,
    "cam_jitter": None,
    "cam_erasing": None,
    "cam_fsl_weight": None,
    "seed": 0,
    "resume": True,
    "state_steps": 0,
    "tensorboard": True,
    # class activation maps
    "cam_scales": [1.0, 0.5, 1.5, 2.0],
    "cam_class_power": None,
    "cam_infer_batch_size": 0,
    "max_side": 1024,
    "cam_out_dir": None,
    # pixel-wise labels
    "label_recipe": "default",
    "label_pamr_dilations": None,
    "label_pamr_num_iter": None,
    "label_high": None,
    "label_low": None,
    "label_crf": True,
    "label_crf_num_iter": None,
    "label_crf_gaussian_sxy": None,
    "label_crf_gaussian_compat": None,
    "label_crf_bilateral_sxy": None,
    "label_crf_bilateral_srgb": None,
    "label_crf_bilateral_compat": None,
    "label_crf_binary": None,
    "label_binary": None,
    "cam_pamr_out_dir": None,
    # run
    "overview_rows": 12,
    "export_threshold": 0.5,
    "result_dir": ROOT / "result",
    "device": "auto",
    "limit": None,
    "num_workers": 0,
    "overwrite": False,
    "quiet": False,
}

PASSES = {
    "train_cam_pass": "step.train_cam",
    "make_cam_pass": "step.make_cam",
    "make_label_pass": "step.make_label",
    "eval_pass": "step.eval",
    "overview_pass": "step.overview",
    "report_pass": "step.report",
    "export": "step.export",
}


def parse(argv: list[str] | None = None):
    flags = Flags(__doc__, DEFAULTS)
    for add in (
        add_train_cam_flags,
        add_train_flags,
        add_cam_flags,
        add_label_flags,
        add_eval_flags,
        add_run_flags,
        add_device_flags,
    ):
        add(flags)
    args = flags.parse(argv)
    args.cam_slic_out_dir = None
    return args


if __name__ == "__main__":
    sys.exit(run_passes(PASSES, parse))
