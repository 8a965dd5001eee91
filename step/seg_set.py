"""Which images the steps of the segmentation branch read: what flags say, and data/segmentation.py finds."""

import numpy as np

from data.datasets import get_dataset
from data.labelled import LabelledImages, merge, open_labelled
from data.segmentation import SegmentationSet, has_split, open_segmentation
from data.toy import write_toy
from data.voc12 import MASKS_AUG, find_root
from misc.errors import InputError


def open_split(args, split: str) -> SegmentationSet:
    """One part of the set that the flags name; --limit takes its first images."""
    root, spec, flag = _source(args)
    try:
        found = open_segmentation(root, spec, split, flag)
    except InputError as e:
        hint = f"; python -m data.prepare {args.dataset} --root {root} gets and checks it" if spec else ""
        raise InputError(f"{e}{hint}") from e
    if args.limit:
        images = found.images.take(range(min(args.limit, len(found.images))))
        found = SegmentationSet(images, found.spec, found.mask_dir)
    return found


def _source(args):
    """-> root, spec (None: the set's own classes), and the flag that errors name."""
    if args.toy:
        return write_toy(args.result_dir / "data"), None, "--toy"
    if args.data_dir:
        return args.data_dir, None, "--data_dir"
    return args.dataset_root, get_dataset(args.dataset), f"--{args.dataset}_root"


def open_train(args) -> SegmentationSet:
    """What is trained on, and therefore labelled: --train_split, and --extra_data_dir's images of its classes."""
    train = open_split(args, args.train_split or _train_split(args))
    if not args.extra_data_dir:
        return train
    extra = open_labelled(args.extra_data_dir, class_names=train.spec.class_names, flag="--extra_data_dir")
    extra = extra.take(np.flatnonzero(extra.labels.any(axis=1)))
    if not len(extra):
        raise InputError(f"--extra_data_dir {args.extra_data_dir}: no image has a class of {train.spec.name}")
    return SegmentationSet(merge(train.images, extra), train.spec, train.mask_dir)


def _train_split(args) -> str:
    root = _source(args)[0]
    root = find_root(root) or root
    lists = root / "ImageSets/Segmentation/train_aug.txt"
    return "train_aug" if lists.is_file() or (root / MASKS_AUG).is_dir() else "train"


def open_eval(args) -> dict[str, SegmentationSet]:
    """--eval_splits that have masks; of a set of one's own, those that it has."""
    splits = [s for s in args.eval_splits if args.data_dir is None or s == "train" or has_split(args.data_dir, s)]
    parts = {split: open_split(args, split) for split in splits}
    return {split: part for split, part in parts.items() if part.mask_dir}


def open_all(args) -> LabelledImages:
    """Every image that gets a map: those of open_train and of open_eval, each once."""
    images = open_train(args).images
    for part in open_eval(args).values():
        images = merge(images, part.images)
    return images
