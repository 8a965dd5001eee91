"""What run_voc.py and run_coco.py share: the table of passes, the defaults of all their flags, and the flags."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from misc.run.flags import (
    Flags,
    Group,
    add_device_flags,
    add_run_flags,
    add_train_flags,
    count,
    flag,
    fraction,
    nonnegative_float,
    positive_float,
    positive_int,
)

ROOT = Path(__file__).resolve().parents[2]

# flag -> module with run(args, failures), or module:function
PASSES = {
    "train_seam_pass": "step.train_seam",
    "make_cam_pass": "step.make_seg_cam",
    "make_crf_pass": "step.make_crf",
    "eval_cam_pass": "step.eval_cam",
    "train_aff_pass": "step.train_aff",
    "make_sem_seg_pass": "step.make_sem_seg",
    "eval_sem_seg_pass": "step.eval_sem_seg",
    "train_seg_pass": "step.train_seg",
    "make_seg_pass": "step.make_seg",
    "eval_seg_pass": "step.eval_seg",
    "report_pass": "step.report:run_classes",
}

# as published for VOC 2012 (HFPL, WACV 2024); what a run script or --toy has otherwise is in tables of their own
DEFAULTS = {
    # passes
    "train_seam_pass": True,
    "make_cam_pass": True,
    "make_crf_pass": True,
    "eval_cam_pass": True,
    "train_aff_pass": True,
    "make_sem_seg_pass": True,
    "eval_sem_seg_pass": True,
    "train_seg_pass": True,
    "make_seg_pass": True,
    "eval_seg_pass": True,
    "report_pass": True,
    # data
    "toy": False,
    "preset": "default",
    "data_dir": None,
    "extra_data_dir": None,
    "train_split": None,
    "eval_splits": ["train", "val"],
    # train_seam
    "method": "hfpl",
    "seam_network": "resnet38",
    "seam_weights": None,
    "seam_fix_norms": True,
    "seam_crop_size": 448,
    "seam_long_side": [448, 768],
    "seam_view_scale": 0.3,
    "seam_batch_size": 8,
    "seam_num_epoches": 8,
    "seam_learning_rate": 0.01,
    "seam_momentum": 5e-4,
    "seam_weight_decay": 5e-4,
    "seam_warm_up": 0.0,
    "seam_clip": 0.0,
    "seam_head_factor": 10,
    "seam_pcm_factor": 10,
    "seam_init": "published",
    "seam_jitter": 0.3,
    "seam_hue": 0.1,
    "isl_weight": 0.2,
    "isl_samples": 10,
    "fsl_weight": 1.0,
    "fsl_mu": 2.5,
    "fsl_sigma": 5.0,
    "accumulate": 1,
    "seed": 1,
    "resume": True,
    "state_steps": 0,
    "tensorboard": True,
    # make_cam, make_crf, eval_cam
    "cam_weights": None,
    "cam_scales": [0.5, 1.0, 1.5, 2.0],
    "max_side": 1024,
    "crf_alphas": [1.0, 24.0],
    "crf_num_iter": 10,
    "crf_scale": 1.0,
    "cam_bg_score": 0.25,
    # train_aff
    "aff_network": None,
    "aff_weights": None,
    "aff_crop_size": 448,
    "aff_long_side": None,
    "aff_jitter": 0.3,
    "aff_hue": 0.1,
    "aff_batch_size": 8,
    "aff_num_epoches": 8,
    "aff_learning_rate": 0.001,
    "aff_momentum": 0.9,
    "aff_weight_decay": 5e-4,
    # make_sem_seg
    "sem_seg_weights": None,
    "sem_seg_scale": 1.0,
    "sem_seg_alpha": 6.0,
    "sem_seg_beta": 8.0,
    "sem_seg_exp_times": 6,
    "sem_seg_crf": True,
    "sem_seg_crf_num_iter": 10,
    "sem_seg_confidence": 0.0,
    "sem_seg_soft": False,
    # train_seg
    "seg_network": None,
    "seg_weights": None,
    "seg_labels": None,
    "seg_head": "largefov",
    "seg_fix_norms": False,
    "seg_norm_momentum": 3e-4,
    "seg_crop_size": 448,
    "seg_scale": [0.5, 1.5],
    "seg_hsv_jitter": 10,
    "seg_batch_size": 10,
    "seg_num_steps": 20001,
    "seg_learning_rate": 0.001,
    "seg_momentum": 0.9,
    "seg_weight_decay": 5e-4,
    "seg_head_factor": 10.0,
    "seg_ema": 0.0,
    "seg_loss": "cross_entropy",
    "seg_loss_q": 0.7,
    # make_seg
    "make_seg_weights": None,
    "seg_splits": ["val"],
    "seg_scales": [0.5, 0.75, 1.0, 1.25, 1.5, 1.75],
    "seg_crf": True,
    "seg_crf_recipe": "wsss_seg",
    "seg_crf_num_iter": 1,
    # run
    "result_dir": None,
    "device": "auto",
    "limit": None,
    "num_workers": 0,
    "overwrite": False,
    "quiet": False,
}

# --preset published: as the authors ran it, where that is neither right nor best
PUBLISHED = {
    "seam_momentum": 5e-4,  # a mistake, which takes the weight decay for it; the learning rate goes with it
    "aff_momentum": 5e-4,
    "aff_learning_rate": 0.01,
    "sem_seg_crf": False,
}

# --preset small: a small network and some hundred steps, for a CPU or for a set of some hundred images
SMALL = {
    "seam_network": "efficientnet_lite0",
    "seam_crop_size": 224,
    "seam_long_side": [224, 384],
    "seam_view_scale": 0.75,
    "seam_learning_rate": 0.003,
    "seam_momentum": 0.9,
    "seam_warm_up": 0.1,
    "seam_clip": 2.0,
    "seam_pcm_factor": 1.0,
    "seam_init": "prototypes",
    "fsl_weight": 4.0,
    "fsl_sigma": 1.5,
    "cam_scales": [0.5, 1.0],
    "aff_weights": Path("seam"),
    "aff_crop_size": 224,
    "aff_long_side": [224, 384],
    "aff_num_epoches": 4,
    "aff_learning_rate": 0.01,
    "sem_seg_alpha": 1.5,
    "sem_seg_exp_times": 4,
    "seg_weights": Path("seam"),
    "seg_fix_norms": True,
    "seg_norm_momentum": 0.1,
    "seg_crop_size": 224,
    "seg_batch_size": 8,
    "seg_num_steps": 400,
    "seg_learning_rate": 0.005,
    "seg_crf_recipe": "wsss_cam",
    "seg_crf_num_iter": 10,
}

# --toy, beside --preset small: pictures of 100 pixels
TOY = {
    **SMALL,
    "seam_init": "whitened",
    "seam_crop_size": 160,
    "seam_long_side": [160, 240],
    "cam_scales": [1.5, 2.0, 2.5],
    "crf_scale": 4.0,
    "aff_crop_size": 160,
    "aff_long_side": [176, 256],
    "aff_num_epoches": 3,
    "sem_seg_scale": 2.0,
    "sem_seg_exp_times": 3,
    "sem_seg_alpha": 1.0,
    "sem_seg_confidence": 0.7,
    "seg_crop_size": 160,
    "seg_scale": [1.25, 2.0],
    "seg_scales": [1.5, 1.75],
}

PRESETS = {"default": {}, "published": PUBLISHED, "small": SMALL}


def parse_flags(description: str, dataset: str, root: Path, own: Mapping[str, object] = {}, argv=None):
    """The flags of a run script. dataset: a name of data.datasets, whose root is a flag; own: what the script has
    otherwise than DEFAULTS. -> args, with dataset and dataset_root."""
    defaults = {**DEFAULTS, **own, f"{dataset}_root": root}
    early = _early(argv)
    defaults |= PRESETS.get(early.preset, {})
    if early.toy:
        defaults |= TOY
    flags = Flags(description, defaults)
    add_set_flags(flags, dataset)
    for add in (
        add_seam_flags,
        add_train_flags,
        add_seg_cam_flags,
        add_crf_map_flags,
        add_cam_eval_flags,
        add_aff_flags,
        add_sem_seg_flags,
        add_train_seg_flags,
        add_make_seg_flags,
        add_run_flags,
        add_device_flags,
    ):
        add(flags)
    args = flags.parse(argv)
    args.dataset, args.dataset_root = dataset, getattr(args, f"{dataset}_root")
    name = "toy" if args.toy else args.data_dir.resolve().name if args.data_dir else dataset
    args.result_dir = args.result_dir or ROOT / "result" / name
    return args


def _early(argv: list[str] | None) -> argparse.Namespace:
    """--toy and --preset change the defaults of other flags, so that they have to be known before these are read."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--toy", type=flag, nargs="?", const=True, default=False)
    parser.add_argument("--preset")
    return parser.parse_known_args(sys.argv[1:] if argv is None else argv)[0]


def add_set_flags(flags: Flags, dataset: str) -> None:
    g = flags.group("data (data/segmentation.py has the layouts)")
    g.add(f"{dataset}_root", Path, f"the data set, as `python -m data.prepare {dataset}` leaves it")
    g.add("toy", flag, "a small set made by code, and settings for two CPU cores; RESULT_DIR is result/toy")
    text = "published: as the authors ran it, also where that is not best; small: for a CPU, or some hundred images"
    g.add("preset", str, text, choices=tuple(PRESETS))
    g.add("data_dir", Path, "images and classes of your own instead; RESULT_DIR is result/<its name>")
    g.add("extra_data_dir", Path, "more labelled images to train with: any set that has some of the classes")
    g.add("train_split", str, "the part to train on; default: train_aug where there is one, else train")
    g.add("eval_splits", str, "the parts to score", nargs="*")


def add_seam_flags(flags: Flags) -> None:
    g = flags.group("train_seam: images with image-level labels -> a network that gives class activation maps")
    g.add("train_seam_pass", flag, "run this stage; torchrun --nproc-per-node N run_voc.py for several devices")
    methods = ("plain", "seam", "hfpl")
    g.add("method", str, "plain: a CAM network; seam: SEAM alone; hfpl: SEAM with ISL and FSL", choices=methods)
    g.add("seam_network", str, "backbone: resnet38, resnet50, densenet169, efficientnet_lite0|1|2")
    g.add("seam_weights", Path, "weights to start from: a .pth, or WideResNet-38's .params; default: ImageNet's")
    g.add("seam_fix_norms", flag, "batch norms stay as they are")
    g.add("seam_crop_size", positive_int, "side of the training images in pixels")
    g.add("seam_long_side", positive_int, "the long side is resized to LOW..HIGH before the crop", nargs=2)
    g.add("seam_view_scale", fraction, "scale of SEAM's second view")
    g.add("seam_batch_size", positive_int, "images a step, of all processes together")
    g.add("seam_num_epoches", positive_float, "passes over the images")
    g.add("seam_learning_rate", positive_float, "of the backbone; biases take twice as much")
    g.add("seam_momentum", fraction, "SGD's momentum, as published; with 0.9 the rate must be lower")
    g.add("seam_weight_decay", nonnegative_float, "weight decay, of biases none")
    g.add("seam_warm_up", fraction, "share of the steps in which the learning rate rises")
    g.add("seam_clip", nonnegative_float, "largest norm of the gradient; 0: any")
    g.add("seam_head_factor", positive_float, "the new layers' learning rate is this many times the backbone's")
    g.add("seam_pcm_factor", nonnegative_float, "the same for the layers of SEAM's pixel correlation module")
    inits = ("published", "whitened", "prototypes")
    text = "new layers' start: random; for short trainings a whitened PCM; also a classifier of class means"
    g.add("seam_init", str, text, choices=inits)
    g.add("seam_jitter", fraction, "strength of the jitter of brightness, contrast, saturation")
    g.add("seam_hue", fraction, "hue is turned by up to this share of the circle")
    g.add("isl_weight", fraction, "share of the importance sampling loss in the first view's classification; 0: off")
    g.add("isl_samples", positive_int, "pixels that it draws from a class's map")
    g.add("fsl_weight", nonnegative_float, "weight of the feature similarity loss; 0: off")
    g.add("fsl_mu", float, "the higher, the sooner two colours count as unlike")
    g.add("fsl_sigma", positive_float, "standard deviation of its Gaussian, in cells of the maps")
    g.add("accumulate", positive_int, "forwards a step")


def add_seg_cam_flags(flags: Flags) -> None:
    g = flags.group("make_cam: images with image-level labels -> RESULT_DIR/cam/<name>.npz")
    g.add("make_cam_pass", flag, "run this stage")
    g.add("cam_weights", Path, "a checkpoint, also a published one of SEAM, HFPL or IRN; default: train_seam's")
    g.add("cam_scales", positive_float, "image scales; each is run with its mirror image", nargs="+")
    g.add("max_side", positive_int, "a longer side is scaled down to this for networks and CRFs")


def add_crf_map_flags(flags: Flags) -> None:
    g = flags.group("make_crf: class activation maps -> RESULT_DIR/crf_la and crf_ha/<name>.npz")
    g.add("make_crf_pass", flag, "run this stage")
    g.add("crf_alphas", positive_float, "LOW HIGH: background is (1 - highest CAM) to this power", nargs=2)
    g.add("crf_num_iter", count, "mean-field iterations")
    add_crf_scale(g)


def add_crf_scale(g: Group) -> None:
    g.add("crf_scale", positive_float, "all CRFs are for pictures this many times smaller than VOC's, of 500 pixels")


def add_cam_eval_flags(flags: Flags) -> None:
    g = flags.group("scores and the page of results")
    g.add("eval_cam_pass", flag, "score the maps at all background thresholds: RESULT_DIR/metrics.json")
    g.add("cam_bg_score", fraction, "the background threshold at which contour F is told beside the best one")
    g.add("report_pass", flag, "write RESULT_DIR/report.html")


def add_aff_flags(flags: Flags) -> None:
    g = flags.group("train_aff: CRF maps -> AffinityNet")
    g.add("train_aff_pass", flag, "run this stage")
    g.add("aff_network", str, "backbone; default: seam_network")
    g.add("aff_weights", Path, "start weights, or seam: train_seam's network; default: what train_seam starts from")
    g.add("aff_crop_size", positive_int, "side of the training images in pixels")
    g.add("aff_long_side", positive_int, "the long side is resized to LOW..HIGH before the crop; default: not", nargs=2)
    g.add("aff_jitter", fraction, "strength of the jitter of brightness, contrast, saturation")
    g.add("aff_hue", fraction, "hue is turned by up to this share of the circle")
    g.add("aff_batch_size", positive_int, "images a step, of all processes together")
    g.add("aff_num_epoches", positive_float, "passes over the images")
    g.add("aff_learning_rate", positive_float, "of the backbone; 10 times as much for new layers")
    g.add("aff_momentum", fraction, "SGD's momentum (the published code has 0.0005 by a mistake)")
    g.add("aff_weight_decay", nonnegative_float, "weight decay, of biases none")


def add_sem_seg_flags(flags: Flags) -> None:
    g = flags.group("make_sem_seg: CAMs -> pseudo labels, RESULT_DIR/sem_seg/<name>.png")
    g.add("make_sem_seg_pass", flag, "run this stage")
    g.add("eval_sem_seg_pass", flag, "score them: RESULT_DIR/metrics.json")
    g.add("sem_seg_weights", Path, "a checkpoint of an AffinityNet, also a published one; default: train_aff's")
    g.add("sem_seg_scale", positive_float, "scale of the image on whose grid, a cell for 8 x 8 pixels, the walk is")
    g.add("sem_seg_alpha", positive_float, "background is (1 - highest CAM) to this power")
    g.add("sem_seg_beta", nonnegative_float, "power of the affinities")
    g.add("sem_seg_exp_times", count, "the walk has 2 to this power steps")
    g.add("sem_seg_crf", flag, "end with a dense CRF")
    g.add("sem_seg_crf_num_iter", count, "mean-field iterations")
    g.add("sem_seg_confidence", fraction, "train_seg leaves out pixels whose label has a lower probability")
    g.add("sem_seg_soft", flag, "also write the scores of all present classes, RESULT_DIR/sem_seg_soft/<name>.npz")


def add_train_seg_flags(flags: Flags) -> None:
    g = flags.group("train_seg: pseudo labels -> the final network")
    g.add("train_seg_pass", flag, "run this stage")
    g.add("seg_network", str, "backbone; default: seam_network")
    g.add("seg_weights", Path, "start weights, or seam: train_seam's network; default: what train_seam starts from")
    g.add("seg_labels", Path, "label maps <name>.png to train on; default: RESULT_DIR/sem_seg")
    g.add("seg_head", str, "head", choices=("largefov", "deeplabv3"))
    g.add("seg_fix_norms", flag, "the backbone's batch norms stay as they are")
    g.add("seg_norm_momentum", fraction, "batch norms' running statistics move by this share a step")
    g.add("seg_crop_size", positive_int, "side of the training images in pixels")
    g.add("seg_scale", positive_float, "images are resized by LOW..HIGH before the crop", nargs=2)
    g.add("seg_hsv_jitter", count, "hue, saturation and value of 8 bits move by up to this")
    g.add("seg_batch_size", positive_int, "images a step, of all processes together")
    g.add("seg_num_steps", positive_int, "steps; the published schedule of 20,000 divides by 20,001")
    g.add("seg_learning_rate", positive_float, "of the backbone; biases take twice as much")
    g.add("seg_momentum", fraction, "SGD's momentum")
    g.add("seg_weight_decay", nonnegative_float, "weight decay, of biases none")
    g.add("seg_head_factor", positive_float, "the head's learning rate is this many times the backbone's")
    g.add("seg_ema", fraction, "share of the running mean of the weights that a step keeps; 0: no mean")
    losses = ("cross_entropy", "generalized")
    g.add("seg_loss", str, "generalized cross entropy trusts labels less", choices=losses)
    g.add("seg_loss_q", positive_float, "of the generalized one: towards 0 cross entropy, 1 absolute error")


def add_make_seg_flags(flags: Flags) -> None:
    g = flags.group("make_seg: the final network -> RESULT_DIR/seg/<name>.png")
    g.add("make_seg_pass", flag, "run this stage")
    g.add("eval_seg_pass", flag, "score them: RESULT_DIR/metrics.json")
    g.add("seg_splits", str, "the parts to segment", nargs="+")
    add_segmenter_flags(g)


def add_segmenter_flags(g: Group) -> None:
    g.add("make_seg_weights", Path, "a checkpoint of a final network, also a published one; default: train_seg's")
    g.add("seg_scales", positive_float, "image scales; each is run with its mirror image", nargs="+")
    g.add("seg_crf", flag, "end with a dense CRF")
    text = "its kernels: of the final network's test as published, or of the pseudo labels, which reach farther"
    g.add("seg_crf_recipe", str, text, choices=("wsss_seg", "wsss_cam"))
    g.add("seg_crf_num_iter", count, "mean-field iterations")
