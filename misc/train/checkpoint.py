"""States of a training on disk: the last two, each whole or absent, so that a killed run goes on where it was."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from misc.errors import InputError
from misc.files.store import replacing

_KEEP = 2
_NAME = re.compile(r"step_(\d+)\.pth")


def save_state(folder: Path, step: int, state: Mapping[str, object]) -> None:
    """state: tensors, numbers, text, lists and dicts of them. A disk that is full leaves the states that are there, and
    is told of: hours of training are worth more than one more state."""
    try:
        with replacing(folder / f"step_{step}.pth") as part:
            _write(state, part)
    except InputError as e:
        print(f"warning: {e}; the training goes on, the last state on disk stays", file=sys.stderr)
        return
    for old in sorted(_states(folder))[:-_KEEP]:
        _states(folder)[old].unlink(missing_ok=True)


def _write(state: Mapping[str, object], path: Path) -> None:
    try:
        torch.save(dict(state), path)
    except RuntimeError as e:  # torch's writer speaks of the stream, not of the disk
        raise OSError(28, str(e).splitlines()[0]) from e


def last_state(folder: Path) -> dict | None:
    """The newest state that can be read; None where there is none. A damaged one is passed over with a warning."""
    for step, path in sorted(_states(folder).items(), reverse=True):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if state["step"] == step:
                return state
            raise ValueError(f"is of step {state['step']}")
        except Exception as e:  # torch raises half a dozen kinds for a damaged file
            reason = " ".join(str(e).split())[:100]
            print(f"warning: {path} is damaged ({reason}); the state before it is used", file=sys.stderr)
    return None


def forget_states(folder: Path) -> None:
    for path in _states(folder).values():
        path.unlink()


def _states(folder: Path) -> dict[int, Path]:
    return {int(m[1]): p for p in folder.glob("step_*.pth") if (m := _NAME.fullmatch(p.name))}
