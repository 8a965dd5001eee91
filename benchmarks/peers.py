"""What several benchmarks need: packages to compare with, and pictures with their masks and maps."""

import importlib
from pathlib import Path
from types import ModuleType

from data.saliency import SAMPLE, open_folder
from misc.errors import InputError
from misc.files.images import find_images


def peer(module: str, package: str) -> ModuleType:
    """A module to compare with. Raises InputError, which names the package to install, where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as e:
        raise InputError(f"{module} is not here ({e}), to compare with: python -m pip install {package}") from e


def pictures(folder: Path | None, flag: str) -> dict[str, Path]:
    """stem -> file; None: the sample photographs. Raises InputError as find_images does."""
    return find_images(folder, flag) if folder else open_folder(SAMPLE).images


def masks(folder: Path | None, flag: str) -> dict[str, Path]:
    """stem -> file; None: the masks of the sample photographs. Raises InputError as find_images does."""
    return find_images(folder or open_folder(SAMPLE).mask_dir, flag)


def maps(folder: Path, flag: str) -> dict[str, Path]:
    """stem -> file, of maps that run_sample.py left. Raises InputError as find_images does."""
    if not folder.is_dir():
        raise InputError(f"{flag} {folder}: no such folder; python run_sample.py makes maps of the sample photographs")
    return find_images(folder, flag)


def same_names(files: dict[str, Path], others: dict[str, Path], flag: str) -> None:
    """Raises InputError where a file has none of its name among the others, which flag names."""
    for stem, path in files.items():
        if stem not in others:
            raise InputError(f"{flag}: none of the name of {path}")
