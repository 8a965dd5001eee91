"""A file that is read once, to be fingerprinted and decoded from memory."""

import io
from pathlib import Path


class Held(io.BytesIO):
    """The bytes of the file at path. Errors of who decodes them call it by its name. Raises OSError as reading does."""

    def __init__(self, path: Path):
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
