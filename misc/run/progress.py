"""What long work says while it runs: a bar on a terminal; a plain line from time to time in a log, a notebook or on a
cluster."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tqdm import tqdm

from misc.run.distributed import is_main

if TYPE_CHECKING:
    from misc.run.flags import Args

Item = TypeVar("Item")


@dataclass(frozen=True)
class Talk:
    """how: bar, lines, off, or auto, a bar on a terminal and lines elsewhere. seconds: between two lines."""

    how: str = "auto"
    seconds: float = 30.0

    @property
    def way(self) -> str:
        return self.how if self.how != "auto" else "bar" if sys.stderr.isatty() else "lines"


_K = 1024  # bytes
SILENT = Talk("off")


def talk_of(args: Args) -> Talk:
    """What flags say; of several processes the first one talks alone."""
    if args.quiet or not is_main():
        return SILENT
    return Talk(args.progress, args.progress_seconds)


class Progress:
    """Tells how far work is, to stderr, while it is entered.

    total: None where it is not known; unit: of what is counted; done: where it begins; tail: ends every line, such as
    where more is to be read; scaled: with k, M and G.
    """

    def __init__(
        self,
        total: int | None,
        text: str,
        talk: Talk,
        unit: str = "img",
        done: int = 0,
        tail: str = "",
        scaled: bool = False,
    ):
        self._text, self._total, self._unit, self._tail = text, total, unit, tail
        self._first = self._done = done
        self._note, self._talk, self._started = "", talk, time.monotonic()
        self._ended = threading.Event()
        hidden = talk.way != "bar"
        self._bar = tqdm(
            total=total, initial=done, desc=text, unit=unit, unit_scale=scaled, unit_divisor=_K, disable=hidden
        )
        self._scaled = scaled

    def __enter__(self) -> Progress:
        if self._talk.way == "lines":
            threading.Thread(target=self._say, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._bar.close()

    def update(self, n: int = 1) -> None:
        self._done += n
        self._bar.update(n)

    def note(self, text: str) -> None:
        """What else there is to say, such as the loss."""
        self._note = text
        self._bar.set_postfix_str(text)

    def line(self) -> str:
        seconds = time.monotonic() - self._started
        rate, total = (self._done - self._first) / max(seconds, 1e-9), self._total
        of = f" of {self._words(total)}" if total else ""
        parts = [f"{self._words(self._done)}{of} {self._unit}", self._note, f"{self._words(rate)} {self._unit}/s"]
        if total:
            left = tqdm.format_interval((total - self._done) / rate) if rate else "unknown time"
            parts.append(f"{left} left")
        return f"{self._text}: {', '.join(filter(None, parts))}{self._tail}"

    def _words(self, n: float) -> str:
        return tqdm.format_sizeof(n, divisor=_K) if self._scaled else f"{n}" if isinstance(n, int) else f"{n:.3g}"

    def _say(self) -> None:
        while not self._ended.wait(self._talk.seconds):
            sys.stderr.write(f"{self.line()}\n")  # as one, so that other threads' words stay out of it
            sys.stderr.flush()


def progress(iterable: Iterable[Item], total: int | None, text: str, talk: Talk, unit: str = "img") -> Iterator[Item]:
    """The same items; tells how many of them were taken."""
    with Progress(total, text, talk, unit) as told:
        for item in iterable:
            yield item
            told.update()
