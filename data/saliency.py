"""Images to label for saliency: a DUTS root, the sample that comes with this repository, or any folder of pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.sample import write_sample
from misc.files.images import read_mask, require_some
from misc.files.listing import SUFFIXES, Listing, find_masks, list_pictures, require_single
from misc.files.remote import fetch_all, is_folder

SAMPLE = Path(__file__).resolve().parent / "sample"
# (images, masks) below the root of a data set; a root with none of them is itself the folder of images
_LAYOUTS = (("DUTS-TR-Image", "DUTS-TR-Mask"), ("DUTS-TE-Image", "DUTS-TE-Mask"), ("images", "masks"))
_TRIED = 8  # masks that are read to see that they are masks


@dataclass(frozen=True)
class ImageFolder:
    """images: path below their folder, without suffix -> file, sorted; masks: likewise, of mask_dir, where there are
    any; told: one line that says what was found and what was passed over."""

    images: dict[str, Path]
    mask_dir: Path | None
    masks: dict[str, Path]
    told: str = ""


@dataclass(frozen=True)
class _Layout:
    """found: the pictures of folder; words: what it is; masks: where they lie beside the pictures."""

    found: Listing
    folder: Path
    words: str
    mask_dir: Path | None = None
    masks: dict[str, Path] | None = None


def open_folder(
    root: Path, limit: int | None = None, mask_dir: Path | None = None, flag: str = "--sal_dataset_dir"
) -> ImageFolder:
    """The pictures of a data set, or one picture; the first `limit` by name. mask_dir: their masks; None: those that
    the data set keeps. Raises InputError as misc.files.images.find_images does."""
    if root.resolve() == SAMPLE:
        write_sample(root)
    if root.suffix.lower() in SUFFIXES:
        fetch_all([root])
    layout = _Layout(Listing({root.stem: root}), root, "one picture") if root.is_file() else _layout_of(root, flag)
    own = layout.masks if mask_dir is None else None
    files, mask_dir = layout.found.files, mask_dir or layout.mask_dir
    if own is None:
        own = find_masks(mask_dir, files, "--mask_dir") if mask_dir else {}
    images = dict(list(files.items())[:limit])
    masks = {name: path for name, path in own.items() if name in images}
    first = f" (of {len(files)})" if len(images) < len(files) else ""
    of = f", masks of {len(masks)}" if mask_dir else ""
    told = f"images: {len(images)}{first} in {layout.folder}, {layout.words}{of}{layout.found.told()}"
    return ImageFolder(images, mask_dir, masks, told)


def _layout_of(root: Path, flag: str) -> _Layout:
    whole = list_pictures(root, flag)
    require_some(Listing(whole.files, {}, whole.passed), root, flag)
    for image_name, mask_name in _LAYOUTS:
        others = sum(not name.startswith((f"{image_name}/", f"{mask_name}/")) for name in whole.files)
        found, own = _below(whole, image_name), root / mask_name
        if found.files and (not others or is_folder(own) or image_name != "images"):
            found.passed[f"outside {image_name}/"] += others
            found.passed = +found.passed  # without those of which there are none
            require_single(found, flag)
            words = f"layout {image_name}/, {'' if is_folder(own) else 'no '}{mask_name}/"
            return _Layout(found, root / image_name, words, own if is_folder(own) else None)
    if len(whole.twins) == len(whole.files) and (masks := _masks_beside(whole.twins)):
        images = {name: next(p for p in paths if p != masks[name]) for name, paths in whole.twins.items()}
        return _Layout(Listing(images, {}, whole.passed), root, "image and mask side by side", root, masks)
    require_single(whole, flag)
    return _Layout(whole, root, "a folder of pictures")


def _below(whole: Listing, folder: str) -> Listing:
    """What of it lies in a folder, by the names there."""
    inside, cut = [name for name in whole.files if name.startswith(f"{folder}/")], len(folder) + 1
    twins = {name[cut:]: paths for name, paths in whole.twins.items() if name.startswith(f"{folder}/")}
    return Listing({name[cut:]: whole.files[name] for name in inside}, twins, whole.passed.copy())


def _masks_beside(twins: Mapping[str, Sequence[Path]]) -> dict[str, Path] | None:
    """Of files x.jpg, x.png throughout, the PNGs, if they are masks; else None."""
    masks = {name: [path for path in paths if path.suffix.lower() == ".png"] for name, paths in twins.items()}
    if any(len(twins[name]) != 2 or len(found) != 1 for name, found in masks.items()):
        return None
    try:
        for (mask,) in list(masks.values())[:_TRIED]:
            read_mask(mask)
    except OSError:
        return None
    return {name: mask for name, (mask,) in masks.items()}
