"""Images to label for saliency: a DUTS root, the sample that comes with this repository, or any folder of pictures."""

from dataclasses import dataclass
from pathlib import Path

from data.sample import write_sample
from misc.files.images import find_images

SAMPLE = Path(__file__).resolve().parent / "sample"
# (images, masks) below the root of a data set; a root with none of them is itself the folder of images
_LAYOUTS = (("DUTS-TR-Image", "DUTS-TR-Mask"), ("DUTS-TE-Image", "DUTS-TE-Mask"), ("images", "masks"))


@dataclass(frozen=True)
class ImageFolder:
    """images: stem -> file, sorted by stem; masks: likewise, of mask_dir, where there are any."""

    images: dict[str, Path]
    mask_dir: Path | None
    masks: dict[str, Path]


def open_folder(
    root: Path, limit: int | None = None, mask_dir: Path | None = None, flag: str = "--sal_dataset_dir"
) -> ImageFolder:
    """The pictures of a data set, or one picture; the first `limit` by stem. mask_dir: their masks; None: those that
    the data set keeps. Raises InputError as find_images does."""
    if root.resolve() == SAMPLE:
        write_sample(root)
    known = [(root / i, root / m) for i, m in _LAYOUTS if (root / i).is_dir()]
    image_dir, own = known[0] if known else (root, None)
    images = {root.stem: root} if root.is_file() else dict(list(find_images(image_dir, flag).items())[:limit])
    mask_dir = mask_dir or (own if own and own.is_dir() else None)
    return ImageFolder(images, mask_dir, find_images(mask_dir, "--mask_dir") if mask_dir else {})
