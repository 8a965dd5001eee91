"""Where files lie: fsspec's file systems, and this machine's disk alike; and the patience that those need."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from misc.errors import InputError, one_line
from misc.files.store import replacing

_PAUSES = (0.1, 0.4, 1.6, 6.4)  # seconds before another try
# another try gives no other answer
_LOST = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, InputError)


class Disk:
    """This machine's files, as fsspec has those of others; whole or absent."""

    def _path(self, url: str) -> Path:
        return Path(url.removeprefix("file://"))

    def cat_file(self, url: str) -> bytes:
        return self._path(url).read_bytes()

    def pipe_file(self, url: str, data: bytes) -> None:
        with replacing(self._path(url)) as part:
            part.write_bytes(data)

    def rm_file(self, url: str) -> None:
        self._path(url).unlink()

    def invalidate_cache(self) -> None:
        pass

    def find(self, url: str, detail: bool = True) -> dict[str, dict[str, Any]]:
        files = (Path(root, name) for root, _, names in os.walk(self._path(url)) for name in names)
        held = ((path, path.stat()) for path in sorted(files) if path.is_file())
        return {path.as_posix(): {"size": s.st_size, "mtime": s.st_mtime} for path, s in held}

    def _strip_protocol(self, url: str) -> str:
        return self._path(url).as_posix()


@cache
def store_of(scheme: str) -> Any:
    """Raises InputError where what it needs is not installed."""
    if scheme == "file":
        return Disk()
    try:
        import fsspec

        own = {"max_concurrency": 1} if scheme in ("s3", "s3a") else {}  # more, and a request goes before each read
        return fsspec.filesystem(scheme, **own)
    except ImportError as e:
        install = "python -m pip install -r requirements-urls.txt"
        raise InputError(f"{scheme}://: {one_line(e)}: {install}") from None
    except ValueError as e:
        raise InputError(f"{scheme}://: {one_line(e)}") from None


def patiently(work: Callable[[], Any]) -> Any:
    """work(), up to five times. Raises OSError where all of them fail."""
    for pause in (*_PAUSES, None):
        try:
            return work()
        except _LOST:
            raise
        except Exception as e:  # of any library, and of a body that is shorter than announced
            if pause is None:
                raise OSError(f"{one_line(e) or type(e).__name__}, in {len(_PAUSES) + 1} tries") from e
            time.sleep(pause * random.uniform(0.5, 1.5))
