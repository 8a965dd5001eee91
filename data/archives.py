"""Archives that data sets come in: downloaded, checked, and unpacked into place. A killed run goes on where it was."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from misc.errors import InputError
from misc.files.download import DownloadError, download
from misc.files.store import replacing
from misc.run.progress import Talk, progress

_UNDER_WAY = ".download"  # below the root: there until everything is unpacked


@dataclass(frozen=True)
class Archive:
    """A .tar or .zip at url; size: bytes. What lies below its folder `inside` goes below the root of the data set; of
    that, files whose path begins with `only`. makes: a path below the root that is there when it is unpacked."""

    url: str
    size: int
    makes: str
    sha256: str | None = None
    inside: str = ""
    only: str = ""


def is_under_way(root: Path) -> bool:
    """Whether a fetch into root has begun and not ended."""
    return (root / _UNDER_WAY).is_dir()


def fetch(archives: tuple[Archive, ...], root: Path, talk: Talk) -> None:
    """Downloads and unpacks what is not there yet. Raises InputError without network or space, naming what to get."""
    for archive in archives:
        packed = root / _UNDER_WAY / PurePosixPath(archive.url.partition("?")[0]).name
        if (root / archive.makes).exists() and not packed.exists():  # while it is there it may be half unpacked
            continue
        _require_space(root, packed, archive)
        print(f"{archive.url} ({archive.size / 1e9:.1f} GB) -> {root}", flush=True)
        url = f"{archive.url}#sha256={archive.sha256}" if archive.sha256 else archive.url
        try:
            download(url, packed.parent, packed.name, progress=talk.how != "off", limit=max(1 << 24, 4 * archive.size))
        except DownloadError as e:
            raise InputError(f"{e}; or unpack that file by hand, so that there is {root / archive.makes}") from e
        _unpack(packed, archive, root, talk)
        packed.unlink()
    shutil.rmtree(root / _UNDER_WAY, ignore_errors=True)


def _require_space(root: Path, packed: Path, archive: Archive) -> None:
    folder = next(f for f in (root.resolve(), *root.resolve().parents) if f.is_dir())
    there = sum(file.stat().st_size for file in packed.parent.glob(f"{packed.name}*"))
    missing = 2 * archive.size - there - shutil.disk_usage(folder).free  # packed and unpacked
    if missing > 0:
        raise InputError(f"--root {root}: {archive.url} needs {missing / 1e9:.1f} GB more there; choose another disk")


def _unpack(path: Path, archive: Archive, root: Path, talk: Talk) -> None:
    """Regular files alone, none outside root; one that is there with its size is left as it is."""
    try:
        with _members(path) as (total, members):
            for name, size, file in progress(members, total, f"unpack {path.suffix}", talk):
                below = _below(name, archive)
                if below is None:
                    continue
                target = root / below
                if not (target.is_file() and target.stat().st_size == size):
                    with replacing(target) as part, file() as source, part.open("wb") as out:
                        shutil.copyfileobj(source, out, 1 << 20)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as e:
        path.unlink()
        raise InputError(f"{archive.url} is no whole archive ({e}) and was removed; run again") from e


def _below(name: str, archive: Archive) -> str | None:
    """Where a member goes, None where it is not wanted."""
    parts, inside = PurePosixPath(name.replace("\\", "/")).parts, PurePosixPath(archive.inside).parts
    outside = ".." in parts or any(part.endswith(":") or part == "/" for part in parts)
    if outside or "__MACOSX" in parts or parts[: len(inside)] != inside:
        return None
    below = "/".join(parts[len(inside) :])
    return below if below.startswith(archive.only) else None


@contextmanager
def _members(path: Path) -> Iterator[tuple[int | None, Iterator]]:
    """Number of members, where that is known, and (name, size, function that opens it) of the regular files."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            yield len(infos), ((info.filename, info.file_size, partial(archive.open, info)) for info in infos)
    else:
        with tarfile.open(path) as archive:
            yield None, ((m.name, m.size, partial(archive.extractfile, m)) for m in archive if m.isfile())
