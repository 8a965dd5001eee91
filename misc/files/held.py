"""A file that is read once, to be fingerprinted and decoded from memory."""

import io
import stat
from pathlib import Path

from misc.files.remote import fetch

_LARGEST = 1 << 31  # bytes of a file that is held in memory


def require_regular(path: Path) -> None:
    """Raises OSError for a folder, pipe or device, which may never end, and for a file of more than 2 GB. One that lies
    elsewhere is fetched."""
    fetch(path)
    held = path.stat()
    if not stat.S_ISREG(held.st_mode):
        raise OSError("is no regular file")
    if held.st_size > _LARGEST:
        raise OSError(f"has {held.st_size} bytes: more than a picture or map can have")


class Held(io.BytesIO):
    """The bytes of the file at path. Errors of who decodes them call it by its name. Raises OSError as reading does."""

    def __init__(self, path: Path):
        require_regular(path)
        super().__init__(path.read_bytes())
        self.path = path

    def __repr__(self) -> str:
        return repr(str(self.path))


class Kept:
    """Reads as Held does, for who needs files several times: the first are kept, up to `room` bytes in all."""

    def __init__(self, room: int = 2**29):
        self._room, self._files = room, {}

    def __call__(self, path: Path) -> Held:
        file = self._files.get(path) or Held(path)
        file.seek(0)
        if path not in self._files and (size := len(file.getvalue())) <= self._room:
            self._room -= size
            self._files[path] = file
        return file
