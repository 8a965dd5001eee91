"""The one error that a person can mend: reported as one line, exit status 2."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InputError(ValueError):
    """A flag, file or folder is not usable; the message names it and says what to do."""


class UnknownClassError(InputError):
    """A data set has a class that is none of those that were asked for."""


class OutOfMemory(InputError):
    """A device has too little memory for what it was given at once."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError from within says which file it is about."""
    try:
        yield
    except OSError as e:
        raise OSError(f"{path}: {e}") from e


def one_line(error: BaseException) -> str:
    """The first words of what an error says, on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
