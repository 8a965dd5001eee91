"""Class activation maps, both pseudo labels of them, and a network's label for a folder of images, without masks.

    python run_sample.py                                    the sample pictures that come with scikit-image
    python run_sample.py DUTS-TR                            your own folder, or one picture
    python run_sample.py --train_cam_pass --cls_dataset_dir my_photos    the network trained first, a folder per class
    python run_sample.py photos --train_sal_pass            a saliency network that learns from both labels
    python run_sample.py --make_cam_pass False              the labels alone, from the maps that are there

Every line of the classes below is a flag and its default: edit it, or give the flag.
"""

import sys
from pathlib import Path

from misc.run.flags import (
    Args,
    Course,
    Device,
    Forwards,
    Pass,
    Results,
    Run,
    Shapes,
    Shards,
    Table,
    Training,
    Words,
    flag,
    pass_flags,
    stage,
)
from misc.run.passes import run_passes
from misc.run.records import lent
from pgt.crf import CRF_RECIPES, CRFParams
from run_slic import RECIPES as SLIC_RECIPES
from run_slic import MakeSlic, Slic

ROOT = Path(__file__).resolve().parent


LABELS = {"cam": "", "cam_pamr": "", "cam_slic": "", "sal": ""}
PASSES = {
    "train_cam_pass": Pass(False, "step.train_cam", "train_cam", often=True),  # torchrun: on several devices
    "make_cam_pass": Pass(True, "step.make_cam", "cam", {"train_cam": "cam_weights_dir"}, often=True),
    "make_label_pass": Pass(True, "step.make_label", "cam_pamr", {"cam": ""}),
    "make_slic_pass": Pass(True, "step.make_slic", "cam_slic", {"cam": ""}),
    "train_sal_pass": Pass(False, "step.train_sal", "train_sal", {"cam_pamr": "", "cam_slic": ""}, often=True),
    "make_sal_pass": Pass(True, "step.make_sal", "sal"),
    "eval_pass": Pass(True, "step.eval", reads=LABELS, parts=True),
    "doubtful_pass": Pass(True, "step.doubtful", reads=LABELS, parts=True),
    "overview_pass": Pass(True, "step.overview", reads=LABELS),
    "report_pass": Pass(True, "step.report", reads=LABELS),
    "export": Pass(None, "step.export", reads=LABELS),
}


@stage("images", of=("make_cam", "make_label", "make_slic", "make_sal"))
class Images:
    sal_dataset_dir: Path = flag(
        ROOT / "data" / "sample", "a DUTS root, any folder of pictures, or one picture", often=True, reads=True
    )
    manifest: Path | None = flag(None, "a text file or .csv of the images' paths, relative to itself", reads=True)
    limit: int | None = flag(None, "take only the first LIMIT images by name", often=True, at_least=1)
    max_side: int = flag(1024, "a longer side is scaled down to this; results come out at full size", at_least=1)


@stage("train_cam: images with image-level labels -> a CAM network", of=("train_cam",))
class Cls:
    cls_dataset_dir: Path | None = flag(
        None, "a folder per class, labels.csv, ILSVRC, VOC 2012 or COCO", often=True, reads=True
    )
    cls_layout: str = flag(
        "auto",
        "how labels are told; auto: by what lies there",
        choices=("auto", "folders", "csv", "ilsvrc_det", "ilsvrc_cls", "voc12", "coco"),
    )
    cls_val_dir: Path | None = flag(
        None, "labelled images that are scored after each epoch, in the same layout", reads=True
    )
    cls_val_boxes: Path | None = flag(None, "a csv (file,x0,y0,x1,y1) of their objects, for the box accuracy of maps")
    cls_val_masks: Path | None = flag(None, "a folder of their masks, for the max F of the maps", reads=True)
    cam_recipe: str = flag(
        "default", "sets the flags below; published: generatePGT's", choices=("default", "published")
    )
    no_pretrained: bool = flag(False, "start from random weights instead of ImageNet's")
    cam_init_weights: Path | None = flag(None, "start from the backbone in this file")


@stage("the recipe of train_cam", prefix="cam_", of=("train_cam",))
class TrainCam:
    layout: str = flag("imagenet", "strides of the network (net/network.py)", choices=("imagenet", "cam"))
    crop_size: int = flag(320, "side of the training images in pixels", at_least=1)
    batch_size: int = flag(32, "images per step, of all processes together", at_least=1)
    num_epoches: float = flag(2.5, "passes over the images", above=0)
    num_steps: int = flag(0, "steps; 0: cam_num_epoches decides", at_least=0)
    optimizer: str = flag("sgd", "optimiser", choices=("sgd", "adamw"))
    learning_rate: float = flag(0.002, "of the backbone", above=0)
    head_factor: float = flag(50.0, "the classifier's learning rate is this many times the backbone's", above=0)
    momentum: float = flag(0.9, "SGD's momentum, AdamW's beta 1", at_least=0, at_most=1)
    weight_decay: float = flag(1e-4, "weight decay", at_least=0)
    schedule: str = flag("cosine", "learning rate over the steps", choices=("poly", "cosine"))
    warm_up: float = flag(0.1, "share of the steps in which the rate rises", at_least=0, at_most=1)
    clip: float = flag(5.0, "largest norm of the gradient; 0: any", at_least=0)
    ema: float = flag(0.99, "what a step keeps of the mean of the weights; 0: no mean", at_least=0, at_most=1)
    loss: str = flag(
        "auto",
        "auto: cross_entropy where images have one class, else soft_margin",
        choices=("auto", "cross_entropy", "soft_margin", "bce_balanced"),
    )
    label_smoothing: float = flag(0.1, "of cross_entropy", at_least=0, at_most=1)
    augment: str = flag("resized_crop", "how an image becomes a square", choices=("resized_crop", "resize", "crop"))
    jitter: float = flag(0.3, "strength of the colour jitter", at_least=0, at_most=1)
    erasing: float = flag(0.25, "probability that a rectangle of the image is erased", at_least=0, at_most=1)
    fsl_weight: float = flag(0.0, "of the feature similarity loss, which draws maps to the image's edges", at_least=0)


@stage("make_cam: images -> class activation maps", of=("make_cam",))
class Cam:
    cam_network: str | None = flag(
        None, "such as resnet50 or efficientnet_lite0; none: what the weights are of", often=True
    )
    cam_weights_dir: str | None = flag(
        None,
        "a file or an https URL[#sha256=...]; none: RESULT_DIR/ckpt/cam.pth where one was trained, else ImageNet's",
        often=True,
    )
    cam_scales: tuple[float, ...] = flag((1.0, 0.5, 1.5, 2.0), "image scales; each also has its mirror image", above=0)
    cam_class_power: float | None = flag(
        None,
        "classes weigh by probability to this power: 1 published, 0 alike; none: 1 for a sigmoid, 0 for a softmax head",
        at_least=0,
        at_most=1,
    )
    cam_quarter: bool = flag(False, "maps of 16 bits at a quarter of the image's size, as published code has them")
    cam_out_dir: Path | None = flag(None, "where the maps go; none: RESULT_DIR/cam", writes=True)


@stage("make_label: class activation maps -> pixel-wise pseudo labels", of=("make_label",))
class MakeLabel:
    label_recipe: str = flag(
        "default", "sets the flags below; published: generatePGT's", often=True, choices=("default", "published")
    )
    cam_pamr_out_dir: Path | None = flag(None, "where the labels go; none: RESULT_DIR/cam_pamr", writes=True)


@stage("the recipe of make_label", prefix="label_", of=("make_label",))
class Label:
    border: float = flag(
        0.0, "share of what is unlike the image's border in the map (pgt/border.py); 0: none", at_least=0, at_most=1
    )
    pamr_dilations: tuple[int, ...] = flag((1, 2, 4, 8), "dilations of PAMR's neighbourhoods", at_least=1)
    pamr_num_iter: int = flag(10, "iterations of PAMR; 0 leaves it out", at_least=0)
    high: float | None = flag(1.7, "surely object: above this times the refined map's mean; none: unsure", above=0)
    low: float = flag(1.0, "surely background: below this times the mean of the refined map", above=0)
    crf: CRFParams | None = flag(CRF_RECIPES["wsod_superpixel"], "end with a dense CRF")
    crf_binary: float | None = flag(None, "binarise before the CRF; none: the soft map", at_least=0, at_most=1)
    binary: float | None = flag(
        None, "binary labels, foreground from this on; none: soft", often=True, at_least=0, at_most=1
    )


@stage("train_sal: images and both labels -> a saliency network", of=("train_sal",))
class Learn:
    sal_network: str | None = flag(None, "its backbone; none: that of --sal_init, else the one of make_cam's default")
    sal_init: str | None = flag(
        None, "start from this file; shipped: from the network that comes along, by its labels; none: ImageNet's"
    )
    sal_rounds: int = flag(
        1, "in all but the last two networks label what the other learned from, for the next to learn from", at_least=1
    )


@stage("the recipe of train_sal", prefix="sal_", of=("train_sal",))
class TrainSal:
    crop_size: int = flag(224, "side of the squares that training images become, in pixels", at_least=32)
    view_sides: tuple[int, ...] = flag((160, 192, 224), "two of these sides per batch have to agree", at_least=32)
    batch_size: int = flag(8, "images per step, of all processes together", at_least=1)
    num_epoches: float = flag(20.0, "passes over the images", above=0)
    num_steps: int = flag(0, "steps; 0: sal_num_epoches decides", at_least=0)
    optimizer: str = flag("adamw", "optimiser", choices=("sgd", "adamw"))
    learning_rate: float = flag(1e-4, "of the backbone", above=0)
    head_factor: float = flag(10.0, "the decoder's learning rate is this many times the backbone's", above=0)
    momentum: float = flag(0.9, "SGD's momentum, AdamW's beta 1", at_least=0, at_most=1)
    weight_decay: float = flag(0.01, "weight decay", at_least=0)
    schedule: str = flag("cosine", "learning rate over the steps", choices=("poly", "cosine"))
    warm_up: float = flag(0.05, "share of the steps in which the rate rises", at_least=0, at_most=1)
    clip: float = flag(1.0, "largest norm of the gradient; 0: any", at_least=0)
    jitter: float = flag(0.3, "strength of the colour jitter", at_least=0, at_most=1)
    sharpness: float = flag(4.0, "how much less an image counts whose loss is larger; 0: all alike", at_least=0)
    refine_from: float = flag(0.35, "share of the steps after which labels move to predictions", at_least=0, at_most=1)
    refine_keep: float = flag(0.6, "what a label keeps of itself when it moves; 1: all", at_least=0, at_most=1)
    refine_crf: float = flag(0.5, "share of a dense CRF's opinion in what labels move to", at_least=0, at_most=1)


@stage("make_sal: images -> a network's labels", of=("make_sal",))
class MakeSal:
    sal_weights: str | None = flag(
        "auto",
        "a file; auto: RESULT_DIR/ckpt/sal.pth where one was trained, else the one that comes along; none: no labels",
        often=True,
    )


@stage("how a saliency network labels", prefix="sal_", of=("make_sal", "train_sal", "make_seg"))
class Sal:
    sides: tuple[int, ...] = flag((256, 320, 384), "squares that the network sees, each also in a mirror", at_least=32)
    crf: CRFParams | None = flag(CRF_RECIPES["saliency"], "half of the label is what a dense CRF makes of the map")
    binary: float | None = flag(None, "binary labels, foreground from this on; none: soft", at_least=0, at_most=1)


STAGES = (
    pass_flags(PASSES), Images(), Cam(), MakeLabel(), Label(), MakeSlic(), Slic(), MakeSal(), Sal(),
    Learn(), TrainSal(), Cls(), TrainCam(), Training(), Course(), Results(), Run(result_dir=ROOT / "result"), Device(),
    Shapes(), Forwards(), Shards(),
)  # fmt: skip

RECIPES = SLIC_RECIPES | {
    "cam_recipe": {
        # generatePGT; its momentum is the weight decay's value by a mistake, which its learning rate was chosen with
        "published": {
            "cam_layout": "cam",
            "cam_crop_size": 256,
            "cam_batch_size": 8,
            "cam_num_steps": 20000,
            "cam_learning_rate": 0.1,
            "cam_head_factor": 10.0,
            "cam_momentum": 1e-4,
            "cam_schedule": "poly",
            "cam_warm_up": 0.0,
            "cam_clip": 0.0,
            "cam_ema": 0.0,
            "cam_loss": "soft_margin",
            "cam_augment": "resize",
            "cam_jitter": 0.0,
            "cam_erasing": 0.0,
        }
    },
    "label_recipe": {
        "published": {
            "label_pamr_dilations": (1, 2, 4, 8, 12, 24),
            "label_high": None,
            "label_crf": CRF_RECIPES["wsod_pixel"],
            "label_crf_binary": 0.4,
            "cam_quarter": True,
            "side_step": 0,
        }
    },
}

TABLE = Table(__doc__, STAGES, RECIPES, positional="sal_dataset_dir")


def parse(argv: Words | None = None) -> Args:
    args, given = TABLE.parse(argv)
    args = TABLE.resolve({**given, **lent(PASSES, args, given)})
    args.cam_slic_out_dir = None
    return args


if __name__ == "__main__":
    sys.exit(run_passes(PASSES, parse))
