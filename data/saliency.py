"""Images to label for saliency: a DUTS root, the sample that comes with this repository, or any folder of pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data.sample import write_sample
from misc.files.images import read_mask, require_some
from misc.files.listing import Listing, find_masks, list_pictures, require_single

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


def open_folder(
    root: Path, limit: int | None = None, mask_dir: Path | None = None, flag: str = "--sal_dataset_dir"
) -> ImageFolder:
    """The pictures of a data set, or one picture; the first `limit` by name. mask_dir: their masks; None: those that
    the data set keeps. Raises InputError as misc.files.images.find_images does."""
    if root.resolve() == SAMPLE:
        write_sample(root)
    if root.is_file():
        found, image_dir, own, layout = Listing({root.stem: root}), root, None, "one picture"
    else:
        found, image_dir, own, layout = _open_root(root, flag)
    masks = {} if own is None else own if isinstance(own, dict) else find_masks(own, found.files, flag)
    own_dir = image_dir if isinstance(own, dict) else own
    if mask_dir:
        masks, own_dir = find_masks(mask_dir, found.files, "--mask_dir"), mask_dir
    images = dict(list(found.files.items())[:limit])
    masks = {name: path for name, path in masks.items() if name in images}
    of = f", masks of {len(masks)}" if own_dir else ""
    first = f" (of {len(found.files)})" if len(images) < len(found.files) else ""
    told = f"images: {len(images)}{first} in {image_dir}, {layout}{of}{found.told()}"
    return ImageFolder(images, own_dir, masks, told)


def _open_root(root: Path, flag: str) -> tuple[Listing, Path, Path | dict[str, Path] | None, str]:
    """-> pictures, their folder, their masks or the folder of these, and the layout in words."""
    whole = list_pictures(root, flag)
    require_some(Listing(whole.files, {}, whole.passed), root, flag)
    for image_name, mask_name in _LAYOUTS:
        inside = {name for name in whole.files if name.startswith(f"{image_name}/")}
        others = {name for name in whole.files if not name.startswith((f"{image_name}/", f"{mask_name}/"))}
        own = root / mask_name
        if inside and (not others or own.is_dir() or image_name != "images"):
            whole.passed[f"outside {image_name}/"] += len(others)
            below = len(image_name) + 1
            twins = {name[below:]: paths for name, paths in whole.twins.items() if name in inside}
            files = {name[below:]: path for name, path in whole.files.items() if name in inside}
            found = Listing(files, twins, +whole.passed)
            require_single(found, flag)
            return found, root / image_name, own if own.is_dir() else None, f"layout {image_name}/, {mask_name}/"
    if len(whole.twins) == len(whole.files) and (masks := _masks_beside(list(whole.twins.values()))):
        pairs = zip(whole.twins, masks, strict=True)
        files = {name: next(p for p in whole.twins[name] if p != mask) for name, mask in pairs}
        return (
            Listing(files, {}, whole.passed),
            root,
            dict(zip(files, masks, strict=True)),
            "image and mask side by side",
        )
    require_single(whole, flag)
    return whole, root, None, "a folder of pictures"


def _masks_beside(twins: Sequence[Sequence[Path]]) -> list[Path] | None:
    """Of files x.jpg, x.png throughout, the PNGs, if they are masks; else None."""
    masks = [[path for path in paths if path.suffix.lower() == ".png"] for paths in twins]
    if any(len(paths) != 2 or len(found) != 1 for paths, found in zip(twins, masks, strict=True)):
        return None
    try:
        for (mask,) in masks[:_TRIED]:
            read_mask(mask)
    except OSError:
        return None
    return [mask for (mask,) in masks]
