"""Passes that find out something of images, and then tell of all together: scores, doubts.

In a run by shards, whoever has a shard finds it out of its images, and keeps it as JSON below the marker; the process
that started the run puts together what is there, in the order of the images, with a shard at a time in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from misc.files.store import fingerprint, read_json, write_text
from misc.run.failures import Failures
from misc.run.flags import Args
from misc.run.shards import marked, marker_of, seen

Files = Mapping[str, Path]  # by the names of images
Found = dict[str, Any]  # as JSON holds it
Parts = Callable[[], Iterator[Found]]  # all that was found, in the order of the images, as often as it is asked


def in_parts(
    step: str,
    opened: Callable[[], Files],
    files: Callable[[Files], Iterable[Path]],
    find: Callable[[Files], Found],
    args: Args,
    failures: Failures,
) -> Parts | None:
    """What find() finds: out of the images of a shard, where one is under way, and nothing is to be told; out of all
    shards at the end of a run by shards; else out of all images.

    opened(): the images, of a shard where one is under way; files(images): what find() reads of them, by whose sizes
    and times a shard is not looked at again.
    """
    if args.at_shard is not None:
        path = _path_of(args, step, args.at_shard)
        if images := opened():
            state = lambda: fingerprint(*images, *map(seen, files(images)), seen(path))  # noqa: E731
            work = lambda: _keep(path, find(images), len(images))  # noqa: E731
            marked(args, step, len(images), [], state, work, failures)
        else:
            marker_of(args, step, args.at_shard).unlink(missing_ok=True)  # of when there were some
        return None
    if args.shards is not None:
        return lambda: _kept(step, args)
    found = find(opened())
    return lambda: iter([found])


def _path_of(args: Args, step: str, number: int) -> Path:
    marker = marker_of(args, step, number)
    return marker.parent / "found" / marker.name


def _keep(path: Path, found: Found, images: int) -> int:
    write_text(path, json.dumps(found, separators=(",", ":")))  # ASCII: lone surrogates of file names survive
    return images


def _kept(step: str, args: Args) -> Iterator[Found]:
    """Of the shards that have a marker: what was given up is listed elsewhere."""
    for number in args.shards or ():
        if marker_of(args, step, number).is_file():
            yield read_json(_path_of(args, step, number))
