"""Files that could not be used: the run goes on, and they are listed with their reasons at its end."""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from misc.files.remote import told
from misc.files.store import add_rows, write_csv


def tell_any_name() -> None:
    """Names of files may hold what the terminal, or the log, cannot show: it is escaped there, and no error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


class Told(Protocol):
    """Where failures go: Failures, or the Strict of stand-alone commands."""

    def add(self, step: str, file: Path, reason: object) -> None: ...


class Failures:
    def __init__(self, csv_path: Path | None):
        """csv_path: None where somebody else lists them."""
        self._path = csv_path
        self._rows: list[tuple[str, str, str]] = []
        self._files: set[str] = set()

    def add(self, step: str, file: Path, reason: object) -> None:
        row = step, told(str(file)), told(str(reason))
        if self._path is not None and self._rows:
            add_rows(self._path, [row])
        elif self._path is not None:  # in place of that of an earlier run
            write_csv(self._path, ("step", "file", "reason"), [row])
        self._rows.append(row)
        self._files.add(str(file))

    def __len__(self) -> int:
        return len(self._rows)

    def since(self, number: int) -> dict[str, str]:
        """file -> reason of those that were added after the first `number`."""
        return {file: reason for _, file, reason in self._rows[number:]}

    def files(self, steps: Collection[str]) -> set[tuple[str, str]]:
        """(step, file) of those of these steps."""
        return {(step, file) for step, file, _ in self._rows if step in steps}

    def __contains__(self, file: Path) -> bool:
        return str(file) in self._files

    def close(self) -> int:
        """Tells of them; returns the exit status, 1 where there are any. A list of an earlier run does not stay."""
        if not self._rows:
            if self._path is not None:
                self._path.unlink(missing_ok=True)
            return 0
        step, file, reason = self._rows[0]
        first = f"{step}: {file}: {reason}"
        print(f"{len(self._rows)} file(s) failed, the rest is done. All: {self._path}; first: {first}", file=sys.stderr)
        return 1
