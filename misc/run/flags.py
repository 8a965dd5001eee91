"""Flags: one group a stage, every one typed and explained. Defaults come from the table at the top of a run script."""

import argparse
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

from misc.errors import InputError
from misc.report.formats import EXPORT_FORMATS


def flag(text: str) -> bool:
    """`--x`, `--x True` and `--x False` mean what they say."""
    value = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(text.lower())
    if value is None:
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return value


def positive_float(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def nonnegative_float(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


def fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not in 0..1")
    return value


def positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return value


def count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """The run script's own docstring as it stands, and every default that there is."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


class Flags:
    """An argparse parser whose defaults are looked up by name: a default that no flag reads, or a flag without one, is
    an error at once, so that editing the table at the top of a run script cannot go wrong silently."""

    def __init__(self, description: str, defaults: Mapping[str, object]):
        self.parser = argparse.ArgumentParser(
            description=description, usage="%(prog)s [flags]", formatter_class=HelpFormatter, allow_abbrev=False
        )
        self.defaults = dict(defaults)

    def group(self, title: str) -> "Group":
        return Group(self, self.parser.add_argument_group(title))

    def parse(self, argv: list[str] | None = None) -> argparse.Namespace:
        if self.defaults:
            raise InputError(f"no such flag in DEFAULTS: {', '.join(self.defaults)}")
        return self.parser.parse_args(argv)


class Group:
    def __init__(self, flags: Flags, group: argparse._ArgumentGroup):
        self._flags, self._group = flags, group

    def add(self, name: str, type: type, help: str, **kwargs) -> None:
        if name not in self._flags.defaults:
            raise InputError(f"DEFAULTS has no {name}")
        default = self._flags.defaults.pop(name)
        if type is flag:
            kwargs = {"nargs": "?", "const": True, "metavar": "True|False", **kwargs}
        self._group.add_argument(f"--{name}", type=type, default=default, help=help, **kwargs)


def from_flags(recipe, args, prefix: str):
    """A recipe (a data class) with those of its fields replaced that args give, by flags named prefix + field."""
    given = {f.name: getattr(args, prefix + f.name, None) for f in fields(recipe)}
    return replace(recipe, **{k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if v is not None})


def add_run_flags(flags: Flags) -> None:
    g = flags.group("run")
    g.add("result_dir", Path, "everything is written below this folder")
    g.add("limit", positive_int, "take only the first LIMIT images by name")
    g.add("num_workers", count, "threads that refine and score; 0: one per core")
    g.add("overwrite", flag, "make every file anew, also those that are up to date")
    g.add("quiet", flag, "no progress bars")


def add_device_flags(flags: Flags) -> None:
    g = flags.group("device")
    g.add("device", str, "auto (cuda, then mps, then cpu), or a torch device such as cuda:1")


def add_train_flags(flags: Flags) -> None:
    """What every training here has."""
    g = flags.group("training")
    g.add("seed", count, "of all that is random; the same seed gives the same weights on one device")
    g.add("resume", flag, "go on from the last state of a run that was killed; False: anew")
    g.add("state_steps", count, "steps between states on disk; 0: an epoch, at most 2,000")
    g.add("tensorboard", flag, "write RESULT_DIR/tensorboard, where the package is installed")


def add_train_cam_flags(flags: Flags) -> None:
    g = flags.group("train_cam: images with image-level labels -> a CAM network (step/train_cam.py has the recipes)")
    g.add("train_cam_pass", flag, "run this stage; torchrun --nproc-per-node N run_sample.py for several devices")
    g.add("cls_dataset_dir", Path, "labelled images: a folder a class, labels.csv, ILSVRC-DET or -CLS, VOC 2012, COCO")
    layouts = ("auto", "folders", "csv", "ilsvrc_det", "ilsvrc_cls", "voc12", "coco")
    g.add("cls_layout", str, "how labels are told; auto: by what lies there", choices=layouts)
    g.add("cls_val_dir", Path, "labelled images that are scored after each epoch, in the same layout")
    g.add("cls_val_boxes", Path, "a csv (file,x0,y0,x1,y1) of the objects in them, for the box accuracy of the maps")
    g.add("cls_val_masks", Path, "a folder of their masks, for the max F of the maps")
    g.add("cam_recipe", str, "what the flags below are where they are not given", choices=("default", "published"))
    g.add("no_pretrained", flag, "start from random weights instead of ImageNet's")
    g.add("cam_init_weights", Path, "start from the backbone in this file")
    g.add("cam_layout", str, "strides of the network (net/network.py)", choices=("imagenet", "cam"))
    g.add("cam_crop_size", positive_int, "side of the training images in pixels")
    g.add("cam_batch_size", positive_int, "images a step, of all processes together")
    g.add("cam_num_epoches", positive_float, "passes over the images")
    g.add("cam_num_steps", positive_int, "steps, instead of cam_num_epoches")
    g.add("cam_optimizer", str, "optimiser", choices=("sgd", "adamw"))
    g.add("cam_learning_rate", positive_float, "of the backbone")
    g.add("cam_head_factor", positive_float, "the classifier's learning rate is this many times the backbone's")
    g.add("cam_momentum", fraction, "SGD's momentum, AdamW's beta 1")
    g.add("cam_weight_decay", nonnegative_float, "weight decay")
    g.add("cam_schedule", str, "learning rate over the steps", choices=("poly", "cosine"))
    g.add("cam_warm_up", fraction, "share of the steps in which the learning rate rises")
    g.add("cam_clip", nonnegative_float, "largest norm of the gradient; 0: any")
    g.add("cam_ema", fraction, "share of the running mean of the weights that a step keeps; 0: no mean")
    g.add("accumulate", positive_int, "forwards a step")
    losses = ("auto", "soft_margin", "bce_balanced", "cross_entropy")
    g.add("cam_loss", str, "auto: cross_entropy where every image has one class, else soft_margin", choices=losses)
    g.add("cam_label_smoothing", fraction, "of cross_entropy")
    g.add("cam_augment", str, "how an image becomes a square", choices=("resized_crop", "resize", "crop"))
    g.add("cam_jitter", fraction, "strength of the colour jitter")
    g.add("cam_erasing", fraction, "probability that a rectangle of the image is erased")
    g.add("cam_fsl_weight", nonnegative_float, "of the feature similarity loss, which draws maps to the image's edges")


def add_cam_flags(flags: Flags) -> None:
    g = flags.group("make_cam: images -> class activation maps")
    g.add("make_cam_pass", flag, "run this stage")
    g.add("sal_dataset_dir", Path, "images to label: a DUTS-TR root, or any folder of pictures (subfolders included)")
    g.add(
        "cam_network",
        str,
        "resnet50, densenet169, efficientnet_lite0|1|2; default: what the weights are of, resnet50 where it is trained",
    )
    g.add(
        "cam_weights_dir",
        str,
        "weights: a file (.pth, .safetensors) or an https URL[#sha256=...]; default: RESULT_DIR/ckpt/cam.pth where one "
        "was trained, else ImageNet's",
    )
    g.add("cam_scales", positive_float, "image scales; each is run with its mirror image", nargs="+")
    g.add(
        "cam_class_power",
        fraction,
        "classes weigh by probability to this power: 1 published, 0 all alike, which finds whole objects better with a "
        "softmax head; default: 1 for a sigmoid head, 0 for a softmax head",
    )
    g.add("cam_infer_batch_size", count, "images of one size per forward; 0: 8 on CUDA, 1 elsewhere")
    g.add("max_side", positive_int, "a longer side is scaled down to this for inference; maps come out at full size")
    g.add("cam_out_dir", Path, "where the maps go; default RESULT_DIR/cam")


def add_label_flags(flags: Flags) -> None:
    g = flags.group("make_label: class activation maps -> pixel-wise pseudo labels")
    g.add("make_label_pass", flag, "run this stage")
    g.add("label_recipe", str, "what the flags below are where they are not given", choices=("default", "published"))
    g.add("label_pamr_dilations", positive_int, "dilations of PAMR's neighbourhoods", nargs="+")
    g.add("label_pamr_num_iter", count, "iterations of PAMR; 0 leaves it out")
    g.add("label_high", positive_float, "surely object: above this times the mean of the refined map")
    g.add("label_low", positive_float, "surely background: below this times the mean of the refined map")
    g.add("label_crf_binary", fraction, "binarise before the CRF (published: 0.4), which then changes nothing")
    g.add("label_binary", fraction, "write binary labels, foreground at and above this (0..1); default: soft labels")
    add_crf_flags(g, "label_crf")
    g.add("cam_pamr_out_dir", Path, "where the labels go; default RESULT_DIR/cam_pamr")


def add_slic_flags(flags: Flags) -> None:
    g = flags.group("make_slic: class activation maps -> superpixel-wise pseudo labels")
    g.add("make_slic_pass", flag, "run this stage")
    g.add("img_root", Path, "the images; default: those of the last run_sample.py")
    g.add("prob_root", Path, "their maps, <stem>.png; default: those of the last run_sample.py (result/cam)")
    g.add("output_root", Path, "where the labels go; default RESULT_DIR/cam_slic")
    g.add("max_side", positive_int, "a longer side is scaled down to this; labels come out at full size")
    g.add(
        "slic_recipe",
        str,
        "what the flags below are where they are not given",
        choices=("default", "published", "mfnet_stage2"),
    )
    g.add("slic_segments", positive_int, "superpixels an image, roughly")
    g.add("slic_compactness", positive_float, "weight of position against colour in SLIC")
    g.add("slic_lab", str, "colour space of SLIC (pgt/superpixel.py)", choices=("rgb", "single", "published"))
    g.add("slic_high", positive_float, "surely object: above this times the mean of the map")
    g.add("slic_low", positive_float, "surely background: below this times the mean of the map")
    add_crf_flags(g, "slic_crf")


def add_crf_flags(g: Group, prefix: str) -> None:
    g.add(prefix, flag, "end with a dense CRF")
    g.add(f"{prefix}_num_iter", count, "mean-field iterations")
    g.add(f"{prefix}_gaussian_sxy", positive_float, "position kernel: standard deviation in pixels")
    g.add(f"{prefix}_gaussian_compat", positive_float, "position kernel: weight")
    g.add(f"{prefix}_bilateral_sxy", positive_float, "bilateral kernel: standard deviation in pixels")
    g.add(f"{prefix}_bilateral_srgb", positive_float, "bilateral kernel: standard deviation in grey levels of 0..255")
    g.add(f"{prefix}_bilateral_compat", positive_float, "bilateral kernel: weight")


def add_eval_flags(flags: Flags) -> None:
    g = flags.group("eval: maps and labels against masks, pictures and exports of them")
    g.add("eval_pass", flag, "compare with masks, where there are any: RESULT_DIR/metrics.json")
    g.add("overview_pass", flag, "draw RESULT_DIR/overview.png")
    g.add("overview_rows", positive_int, "images in the overview")
    g.add("report_pass", flag, "write RESULT_DIR/report.html, a page to look through all of it")
    g.add("export", str, "labels for other tools as well, to RESULT_DIR/export", choices=EXPORT_FORMATS)
    g.add("export_threshold", fraction, "foreground of an exported label: at and above this (0..1)")
    g.add("mask_dir", Path, "masks with the names of the images; default: those of the data set, if it has any")
