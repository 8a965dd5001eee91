"""Which images the steps read: what flags say, and data/saliency.py and data/segmentation.py find, once per run."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.datasets import DatasetSpec, get_dataset
from data.labelled import LabelledImages, merge, open_labelled
from data.saliency import ImageFolder, open_folder
from data.segmentation import SegmentationSet, has_split, open_segmentation
from data.toy import write_toy
from data.voc12 import MASKS_AUG, find_root
from misc.errors import InputError, UnknownClassError
from misc.files.images import image_size, limit_side, require_some
from misc.files.listing import SUFFIXES, find_masks, list_pictures
from misc.files.manifest import Manifest, lines_of, open_manifest, write_lines, write_manifest
from misc.files.remote import as_path, below, digest_of_listing, elsewhere, fail, fetch_all, files_of_tar, hold, url_of
from misc.files.store import read_json, write_json, write_text
from misc.run.distributed import is_main
from misc.run.each import Item
from misc.run.flags import Args
from misc.run.records import plain
from misc.run.shards import part_of
from misc.run.staging import is_far, of_tars, put_all, tars_in
from pgt.sizes import network_size


def open_images(args: Args) -> ImageFolder:
    """The images to label for saliency, and their masks; those of a shard, where one is under way. Tells of them,
    once."""
    if args.at_shard is None:
        return args.once("images", lambda: _open_images(args))
    return args.once("shard", lambda: _open_shard(args, args.at_shard, _scores_by_shards(args)))


def each_image(args: Args) -> Iterator[tuple[str, Path, Path | None]]:
    """Name, file and mask of those of open_images; at the end of a run by shards with one shard at a time in memory."""
    folders = [open_images(args)] if args.shards is None else (_open_shard(args, k, True) for k in args.shards)
    for folder in folders:
        yield from ((name, path, folder.masks.get(name)) for name, path in folder.images.items())


def mask_dir_of(args: Args) -> Path | None:
    """open_images(args).mask_dir, likewise."""
    if args.shards is None:
        return open_images(args).mask_dir
    return _open_shard(args, args.shards[0], True).mask_dir if args.shards else None


def _open_images(args: Args) -> ImageFolder:
    if args.manifest is None and not of_tars(args):
        found = open_folder(args.sal_dataset_dir, args.limit, args.mask_dir, args.images_flag)
    else:
        images, source = _images_of(args, range(_manifest(args).shards)), args.manifest or args.sal_dataset_dir
        masks = find_masks(args.mask_dir, images, "--mask_dir") if args.mask_dir else {}
        found = ImageFolder(images, args.mask_dir, masks, f"images: {len(images)}, in {source}")
    print(found.told, flush=True)
    return found


def _open_shard(args: Args, number: int, with_masks: bool) -> ImageFolder:
    images, masks = _images_of(args, [number]), _masks(args) if with_masks else None
    if masks is None:
        return ImageFolder(images, None, {})
    folder = Path(os.path.normpath(args.result_dir / masks.facts["folder"]))
    found = zip(images, masks.lines(number), strict=True)
    return ImageFolder(images, folder, {name: folder / line for name, line in found if line})


def _scores_by_shards(args: Args) -> bool:
    return args.eval_pass and not is_far(args)


def _listed(args: Args) -> ImageFolder:
    """_open_images, while lists are written of them."""
    return args.once("listed", lambda: _open_images(args))


def _masks(args: Args) -> Manifest | None:
    """RESULT_DIR/masks.txt: the masks of the manifest's images, line by line, empty where there is none. None where the
    set has no masks. Written where it is not there, of another manifest or --mask_dir, or, before all shards are handed
    out, older than a folder of masks."""
    path = args.result_dir / "masks.txt"

    def opened() -> Manifest | None:
        of = args.mask_dir and plain(args.mask_dir, args.result_dir)
        facts = {"of": of, "manifest": _manifest(args).facts.get("digest")}
        held = open_manifest(path, args.shard_size) if path.exists() else None
        if held is None or not facts.items() <= held.facts.items() or (_hands_all_out(args) and _is_older(held, args)):
            _write_masks(path, facts, args)
            held = open_manifest(path, args.shard_size)
        return held if held.facts["folder"] else None

    return args.once("masks", opened)


def _write_masks(path: Path, facts: dict, args: Args) -> None:
    found, manifest = _listed(args), _manifest(args)
    names = (name for number in range(manifest.shards) for name in manifest.shard(number))
    lines = [_below(found.masks.get(name), found.mask_dir) for name in names] if found.mask_dir else []
    write_lines(path, lines, {**facts, "folder": found.mask_dir and plain(found.mask_dir, args.result_dir)})


def _hands_all_out(args: Args) -> bool:
    return args.at_shard is None and part_of(args.shard)[1] == 1


def _is_older(held: Manifest, args: Args) -> bool:
    """Whether a list is older than a folder of what it names, in which something has come or gone; of no masks, than
    that of the set, where some may be now. Times of folders cost little."""
    folders = [args.sal_dataset_dir]
    if held.facts["folder"]:
        root = Path(os.path.normpath(args.result_dir / held.facts["folder"]))
        found = {line.rpartition("/")[0] for number in range(held.shards) for line in held.lines(number)}
        folders = [*{root / part for folder in found for part in (Path(folder), *Path(folder).parents)}]
    written = held.path.stat().st_mtime_ns
    return any(folder.stat().st_mtime_ns > written for folder in folders if folder.is_dir())


def _below(path: Path | None, folder: Path) -> bytes:
    return os.fsencode(path.relative_to(folder).as_posix()) if path else b""


def _manifest(args: Args) -> Manifest:
    """RESULT_DIR/manifest.txt, which is written where it is not there. Raises InputError where it is of others."""
    path, source = args.result_dir / "manifest.txt", args.manifest or args.sal_dataset_dir
    facts = {"of": plain(source, args.result_dir), "limit": args.limit, **({"tars": True} if of_tars(args) else {})}

    def opened() -> Manifest:
        fetch_all([path])
        if not path.exists():
            lines, folder = _lines(args)
            listed = {"listed": digest_of_listing(folder)} if url_of(folder) and not args.manifest else {}
            write_manifest(path, lines, {**facts, "folder": plain(folder, args.result_dir), **listed})
            put_all()
            args.once("changes", lambda: None)  # as the images are now
        held = open_manifest(path, args.shard_size)
        if not facts.items() <= held.facts.items():
            raise InputError(f"{path}: is not of {source} and this --limit; remove it, or give another --result_dir")
        return held

    return args.once("manifest", opened)


def _lines(args: Args) -> tuple[list[bytes], Path]:
    """A path per image, and the folder that they are below."""
    if args.manifest is not None:
        return lines_of(args.manifest, "--manifest")[: args.limit], args.manifest.parent
    if of_tars(args):
        tars = tars_in(args.sal_dataset_dir)[: args.limit]
        return [tar.name.encode("utf-8", "surrogateescape") for tar in tars], tars[0].parent
    images = _listed(args).images
    lines = [f"{name}{file.suffix}".encode("utf-8", "surrogateescape") for name, file in images.items()]
    name, file = next(iter(images.items()))
    return lines, Path(str(file)[: -len(name + file.suffix)])


def _images_of(args: Args, shards: Iterable[int]) -> dict[str, Path]:
    manifest = _manifest(args)
    folder = Path(os.path.normpath(args.result_dir / as_path(manifest.facts["folder"])))
    lines = ((name, below(folder, line)) for number in shards for name, line in manifest.shard(number).items())
    return dict(_of_tars(lines, args) if of_tars(args) else lines)


def _of_tars(tars: Iterable[tuple[str, Path]], args: Args) -> Iterator[tuple[str, Path]]:
    """The pictures in tars, whose names begin as those of the tars; RESULT_DIR/members has them once they are known."""
    for name, tar in ((name, elsewhere(path)) for name, path in tars):
        index = args.result_dir / "members" / f"{name}.json"
        fetch_all([index])
        hold([index])
        try:
            known = read_json(index).get("files") or _pictures_of(tar)
        except OSError as e:  # the tar stands for its pictures, and is what failed
            fail(tar, e)
            yield name, tar
            continue
        if not index.exists():
            write_json(index, {"files": known})
        yield from ((f"{name}.tar/{Path(file).with_suffix('').as_posix()}", tar / file) for file in known)


def _pictures_of(tar: Path) -> list[str]:
    """Their paths in it. Raises OSError for one that is damaged, or has two of one name."""
    files = [path.relative_to(tar).as_posix() for path in files_of_tar(tar) if path.suffix.lower() in SUFFIXES]
    for name, count in Counter(file.rpartition(".")[0] for file in files).items():
        if count > 1:
            raise OSError(f"{count} pictures in it are called {name} and would share a label; rename one of them")
    return files


def count_images(args: Args) -> int:
    """How many there are, whose places tell their shards: the most that a pass has. For who hands shards out: lists
    that workers read are written."""
    if hasattr(args, "sal_dataset_dir"):
        manifest = _manifest(args)
        if _scores_by_shards(args):
            _masks(args)
        if _hands_all_out(args):
            args.once("changes", lambda: _tell_changes(args, manifest))
        args.opened.pop("listed", None)  # the largest thing there is
        return manifest.count
    files = all_files(args) if args.make_seg_pass else open_all(args)
    shown = open_shown(args).values() if args.doubtful_pass else ()
    return max(len(files), len({name for part in shown for name in part.images.names}))


def _tell_changes(args: Args, manifest: Manifest) -> None:
    """Says in a line which images came and went since the manifest was written."""
    listed = args.manifest and args.manifest.stat().st_mtime_ns > manifest.path.stat().st_mtime_ns
    if not (listed if args.manifest else _is_older(manifest, args)):
        return
    now = {line.decode("utf-8", "surrogateescape") for line in _lines(args)[0]}
    known = {line for number in range(manifest.shards) for line in manifest.lines(number)}
    came, went = len(now - known), len(known - now)
    if came or went:
        print(f"{manifest.path}: {came} images came and {went} went since it was written; remove it to take them in")
    else:
        os.utime(manifest.path)  # so that the next run need not look


def shard_of(args: Args, count: int) -> range:
    """The places, among so many, of the shard that is under way; all, in a run without shards."""
    start, size = (args.at_shard * args.shard_size, args.shard_size) if args.at_shard is not None else (0, count)
    return range(min(start, count), min(start + size, count))


def list_images(folder: Path, flag: str, what: str = "images") -> dict[str, Path]:
    """misc.files.images.find_images, and tells of what was found."""
    listing = list_pictures(folder, flag)
    print(f"{what}: {len(listing.files)} in {folder}{listing.told()}", flush=True)
    return require_some(listing, folder, flag)


def open_split(args: Args, split: str) -> SegmentationSet:
    """One part of the set that the flags name, checked; --limit takes its first images."""
    return args.once(f"part {split}", lambda: _open_split(args, split))


def _open_split(args: Args, split: str) -> SegmentationSet:
    root, spec, flag = _source(args)
    try:
        found = open_segmentation(root, spec, split, flag)
    except UnknownClassError as e:
        hint = f"a set of classes of its own is given as --data_dir {root}" if spec else "or name it in class_names.txt"
        raise InputError(f"{e}; {hint}") from e
    except InputError as e:
        hint = f"; python -m data.prepare {args.dataset} --root {root} gets and checks it" if spec else ""
        raise InputError(f"{e}{hint}") from e
    if is_main():
        masks = f", masks of {len(found.masks)}" if found.mask_dir else ""
        print(f"{split}: {len(found.images)} images in {root}{masks}, {found.images.told}", flush=True)
    if args.limit:
        images = found.images.take(range(min(args.limit, len(found.images))))
        found = SegmentationSet(images, found.spec, found.mask_dir)
    if args.data_dir and split != (train := _train_split(args)):
        images = told_apart(found.images, split, open_split(args, train).images)
        found = SegmentationSet(images, found.spec, found.mask_dir)
    return found


def told_apart(images: LabelledImages, split: str, others: LabelledImages) -> LabelledImages:
    """The images of a part, named SPLIT/<name> where another file of the others has the name of one."""
    files = dict(zip(others.names, others.files, strict=True))
    if all(files.get(name, file) == file for name, file in zip(images.names, images.files, strict=True)):
        return images
    return replace(images, names=tuple(f"{split}/{name}" for name in images.names))


def _source(args: Args) -> tuple[Path, DatasetSpec | None, str]:
    """-> root, spec (None: the set's own classes), and the flag that errors name."""
    if args.toy:
        return write_toy(args.result_dir / "data"), None, "--toy"
    if args.data_dir:
        return args.data_dir, None, "--data_dir"
    return args.dataset_root, get_dataset(args.dataset), f"--{args.dataset}_root"


def open_train(args: Args) -> SegmentationSet:
    """What is trained on, and therefore labelled: --train_split, and --extra_data_dir's images of its classes.

    The other parts are opened too: what is wrong with them is told before the work. RESULT_DIR/class_names.txt has the
    order of the labels.
    """
    return args.once("train", lambda: _open_train(args))


def _open_train(args: Args) -> SegmentationSet:
    train = open_split(args, _train_split(args))
    open_eval(args)
    if is_main():
        for line in _missing(args):
            print(line, flush=True)
        write_text(args.result_dir / "class_names.txt", "".join(f"{name}\n" for name in train.spec.class_names))
    if not args.extra_data_dir:
        return train
    flag, names = "--extra_data_dir", train.spec.class_names
    extra = args.once(flag, lambda: open_labelled(args.extra_data_dir, class_names=names, flag=flag))
    extra = extra.take(np.flatnonzero(extra.labels.any(axis=1)))
    if not len(extra):
        raise InputError(f"{flag} {args.extra_data_dir}: no image has a class of {train.spec.name}")
    return SegmentationSet(merge(train.images, extra), train.spec, train.mask_dir)


def _missing(args: Args) -> Iterator[str]:
    """What parts that a set of one's own lacks cost."""
    if args.data_dir is None:
        return
    if not has_split(args.data_dir, "val"):
        where = "the images that it learned from, and says little of new ones"
        yield f"no val (a list val.txt, or a folder val): the final network segments {where}"
    if not any(part.masks for part in open_eval(args).values()):
        yield "no masks (masks/<name>.png): nothing is scored; doubtful.csv says which labels to look at first"


def _train_split(args: Args) -> str:
    if args.train_split:
        return args.train_split
    root = _source(args)[0]
    root = find_root(root) or root
    lists = root / "ImageSets/Segmentation/train_aug.txt"
    return "train_aug" if lists.is_file() or (root / MASKS_AUG).is_dir() else "train"


def open_eval(args: Args) -> dict[str, SegmentationSet]:
    """--eval_splits that have masks; of a set of one's own, those that it has."""
    splits = [s for s in args.eval_splits if args.data_dir is None or s == "train" or has_split(args.data_dir, s)]
    parts = {split: open_split(args, split) for split in splits}
    return {split: part for split, part in parts.items() if part.mask_dir}


def open_segmented(args: Args) -> dict[str, SegmentationSet]:
    """--seg_splits; by default val, and what is trained on where a set of one's own has none that can be scored."""
    if args.seg_splits is not None or args.data_dir is None:
        return {split: open_split(args, split) for split in args.seg_splits or ("val",)}
    val = {"val": open_split(args, "val")} if has_split(args.data_dir, "val") else {}
    return val if val and val["val"].masks else {"train": open_train(args), **val}


def open_shown(args: Args) -> dict[str, SegmentationSet]:
    """The parts of the report: those that are scored; where none is, what is trained on and what is segmented."""
    scored = {split: part for split, part in open_eval(args).items() if part.masks}
    return scored or {"train": open_train(args), **open_segmented(args)}


def all_files(args: Args) -> dict[str, Path]:
    """Name -> file of every image of open_all and of open_segmented."""
    parts = [open_all(args), *(part.images for part in open_segmented(args).values())]
    return {name: file for part in parts for name, file in zip(part.names, part.files, strict=True)}


def open_all(args: Args) -> LabelledImages:
    """Every image that gets a map: those of open_train and of open_eval, each once."""
    images = open_train(args).images
    for part in open_eval(args).values():
        images = merge(images, part.images)
    return images


def largest_first(items: Sequence[Item], max_side: int, step: int = 0) -> list[Item]:
    """By the size at inference (pgt.cam.network_size at step): whoever runs out of memory does so at once, what the
    first image took is enough for all others, and images of one size, which make a batch, follow each other."""

    def order(item: Item) -> tuple:
        height, width = network_size(limit_side(image_size(item.source), max_side), 1.0, step)
        return -height * width, height, item.outs

    return sorted(items, key=order)
