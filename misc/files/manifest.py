"""Which images a set has, in their order, as a file: written once, opened by every worker without reading it whole.

A first line of facts behind `#`, then a line per image: its path, relative to the folder that the facts name, or whole.
Its name is that path without the suffix.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from misc.errors import InputError
from misc.files.remote import fetch
from misc.files.store import fingerprint, read_text, replacing

_BLOCK = 1 << 26  # bytes that are looked through at once
_WORDS = frozenset((b"file", b"filename", b"file_name", b"image", b"path", b"url"))  # a header's
_ROOT = re.compile(r"^(\w+:)?/+")


@dataclass(frozen=True)
class Manifest:
    """path: the file; facts: its first line; count: images; starts: where in the file each shard of `size` begins, and
    the end."""

    path: Path
    facts: dict
    count: int
    size: int
    starts: tuple[int, ...]

    @property
    def shards(self) -> int:
        return len(self.starts) - 1

    def lines(self, number: int) -> list[str]:
        """Of a shard, in order."""
        with self.path.open("rb") as f:
            f.seek(self.starts[number])
            held = f.read(self.starts[number + 1] - self.starts[number])
        return [line.decode("utf-8", "surrogateescape") for line in held.splitlines()]

    def shard(self, number: int) -> dict[str, str]:
        """name -> path of the images of a shard, in order."""
        return {name_in(line): line for line in self.lines(number)}


def name_in(line: str) -> str:
    """What an image is called: its path without suffix; of a whole path without its root."""
    return _ROOT.sub("", line).rpartition(".")[0]


def _whole(line: bytes, folder: Path) -> bytes:
    """A path that leaves the folder, as a whole one: its name must not lead a result out of its own folder."""
    return os.fsencode(os.path.normpath(folder.absolute() / os.fsdecode(line)))


def write_manifest(path: Path, lines: Sequence[bytes], facts: dict) -> None:
    """facts, and a digest of the lines. Raises InputError where two images have one name, or a name holds an end of
    line."""
    _require_apart(lines)
    digest = fingerprint(*(b"\n".join(lines[i : i + (1 << 16)]) for i in range(0, len(lines), 1 << 16)))
    write_lines(path, lines, {**facts, "digest": digest})


def _require_apart(lines: Sequence[bytes]) -> None:
    names = np.fromiter((hash(line[: line.rfind(b".")]) for line in lines), np.int64, len(lines))
    names.sort()
    if (names[1:] == names[:-1]).any():
        _tell_twins(lines)


def write_lines(path: Path, lines: Sequence[bytes], facts: dict) -> None:
    """Raises InputError where a name holds an end of line."""
    if odd := next((line for line in lines if b"\n" in line or b"\r" in line), None):
        raise InputError(f"{odd!r}: a name that holds an end of line cannot stand in a manifest; rename the file")
    with replacing(path) as part, part.open("wb") as f:
        f.write(b"#" + json.dumps(facts).encode() + b"\n")
        for i in range(0, len(lines), 1 << 16):
            f.write(b"\n".join(lines[i : i + (1 << 16)]) + b"\n")


def _tell_twins(lines: Sequence[bytes]) -> None:
    seen: dict[bytes, bytes] = {}
    for line in lines:
        other = seen.setdefault(line[: line.rfind(b".")], line)
        if other is not line:
            one, two = (text.decode("utf-8", "replace") for text in (other, line))
            raise InputError(f"{one} and {two} have one name and would share a label; rename one of them")


def open_manifest(path: Path, size: int) -> Manifest:
    """A file of write_manifest's in shards of `size` images. Raises InputError for another one."""
    starts, seen, end = [], 0, 0
    with path.open("rb") as f:
        first = f.readline()
        try:
            facts = json.loads(first.removeprefix(b"#"))
        except ValueError:
            raise InputError(f"{path}: is no manifest of this program; move it away") from None
        end = f.tell()
        starts.append(end)
        while block := f.read(_BLOCK):
            ends = np.flatnonzero(np.frombuffer(block, np.uint8) == 10)
            wanted = np.arange(-seen % size, len(ends) + 1, size)  # lines that begin a shard, each after an end
            starts += [end + int(ends[i - 1]) + 1 for i in wanted if i]
            seen, end = seen + len(ends), end + len(block)
    return Manifest(path, facts, seen, size, (*(s for s in starts if s < end), end))


def lines_of(path: Path, flag: str) -> list[bytes]:
    """The paths that somebody's list names, sorted: a line each, or the first column of a .csv. Raises InputError
    where it cannot be read, is empty, or names what has no suffix."""
    try:
        fetch(path)
        if path.suffix.lower() == ".csv":
            rows = csv.reader(io.StringIO(read_text(path), newline=""))
            lines = [row[0].strip().encode("utf-8", "surrogateescape") for row in rows if row]
        else:
            lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
            lines = [line for line in map(bytes.strip, lines) if line and not line.startswith(b"#")]
    except (OSError, ValueError) as e:
        raise InputError(f"{flag} {path}: cannot be read ({e})") from e
    lines = lines[1:] if lines and lines[0].lower() in _WORDS else lines
    if bad := next((line for line in lines if b"." not in line.rpartition(b"/")[2]), None):
        raise InputError(f"{flag} {path}: {bad.decode('utf-8', 'replace')} has no suffix; give the paths of files")
    lines = [_whole(line, path.parent) if b".." in line.split(b"/") else line for line in lines]
    if not lines:
        raise InputError(f"{flag} {path}: names no image; give a line per image")
    lines.sort()
    return lines
