"""Which images the steps of the segmentation branch read: what flags say, and data/segmentation.py finds."""

from pathlib import Path

import numpy as np

from data.datasets import DatasetSpec, get_dataset
from data.labelled import LabelledImages, merge, open_labelled
from data.segmentation import SegmentationSet, has_split, open_segmentation
from data.toy import write_toy
from data.voc12 import MASKS_AUG, find_root
from misc.errors import InputError
from misc.run.flags import Args


def open_split(args: Args, split: str) -> SegmentationSet:
    """One part of the set that the flags name, opened and checked once per run; --limit takes its first images."""
    opened = vars(args).setdefault("opened", {})
    if split not in opened:
        opened[split] = _open_split(args, split)
    return opened[split]


def _open_split(args: Args, split: str) -> SegmentationSet:
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


def _source(args: Args) -> tuple[Path, DatasetSpec | None, str]:
    """-> root, spec (None: the set's own classes), and the flag that errors name."""
    if args.toy:
        return write_toy(args.result_dir / "data"), None, "--toy"
    if args.data_dir:
        return args.data_dir, None, "--data_dir"
    return args.dataset_root, get_dataset(args.dataset), f"--{args.dataset}_root"


def open_train(args: Args) -> SegmentationSet:
    """What is trained on, and therefore labelled: --train_split, and --extra_data_dir's images of its classes."""
    train = open_split(args, args.train_split or _train_split(args))
    if not args.extra_data_dir:
        return train
    opened = vars(args)["opened"]
    if "extra" not in opened:
        extra = open_labelled(args.extra_data_dir, class_names=train.spec.class_names, flag="--extra_data_dir")
        opened["extra"] = extra.take(np.flatnonzero(extra.labels.any(axis=1)))
    if not len(opened["extra"]):
        raise InputError(f"--extra_data_dir {args.extra_data_dir}: no image has a class of {train.spec.name}")
    return SegmentationSet(merge(train.images, opened["extra"]), train.spec, train.mask_dir)


def _train_split(args: Args) -> str:
    root = _source(args)[0]
    root = find_root(root) or root
    lists = root / "ImageSets/Segmentation/train_aug.txt"
    return "train_aug" if lists.is_file() or (root / MASKS_AUG).is_dir() else "train"


def open_eval(args: Args) -> dict[str, SegmentationSet]:
    """--eval_splits that have masks; of a set of one's own, those that it has."""
    splits = [s for s in args.eval_splits if args.data_dir is None or s == "train" or has_split(args.data_dir, s)]
    parts = {split: open_split(args, split) for split in splits}
    return {split: part for split, part in parts.items() if part.mask_dir}


def open_all(args: Args) -> LabelledImages:
    """Every image that gets a map: those of open_train and of open_eval, each once."""
    images = open_train(args).images
    for part in open_eval(args).values():
        images = merge(images, part.images)
    return images
