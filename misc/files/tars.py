"""Tars as folders: a path x.tar/a.jpg is the member a.jpg of x.tar, as webdataset has it, and below a folder of results
cam/x.tar/a.png is a.cam.png, with a.json beside it, which tells its fingerprint."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

from misc.errors import one_line
from misc.files.store import fingerprint_of

_SUFFIX = ".tar"


def tar_of(path: Path) -> Path | None:
    """The tar that a path leads into; None where it leads into none, is one, or is a picture that a page shows."""
    if "report_files" in path.parts:
        return None
    return next((folder for folder in path.parents if folder.suffix == _SUFFIX), None)


def members(tar: Path, data: bytes) -> Iterator[tuple[Path, bytes]]:
    """The files in the bytes of a tar, by paths below it; not those that would lie elsewhere, or are hidden. Raises
    OSError where it is damaged."""
    ending = f".{tar.parent.name}"
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as held:
            for member in held:
                name = Path(member.name)
                if member.isfile() and not name.is_absolute() and not any(p.startswith(".") for p in name.parts):
                    if name.stem.endswith(ending):
                        name = name.with_name(name.stem.removesuffix(ending) + name.suffix)
                    elif name.suffix == ".json":
                        continue
                    with held.extractfile(member) as f:
                        yield tar / name, f.read()
    except tarfile.TarError as e:
        raise OSError(f"is no whole tar ({one_line(e)})") from e


def packed(tar: Path) -> bytes:
    """What lies below it as the bytes of a tar, the same ones for the same files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as held:
        for path in sorted(path for path in tar.rglob("*") if path.is_file() and not path.name.startswith(".")):
            name = path.relative_to(tar)
            stem = name.with_suffix("").as_posix()
            facts = {"kind": tar.parent.name, "file": f"{stem}.{tar.parent.name}{name.suffix}"}
            facts["fingerprint"] = fingerprint_of(path)
            _add(held, facts["file"], path.read_bytes())
            _add(held, f"{stem}.json", json.dumps(facts).encode())
    return out.getvalue()


def _add(held: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    held.addfile(info, io.BytesIO(data))
