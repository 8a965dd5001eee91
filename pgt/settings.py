"""Settings of the method: dataclasses whose fields carry help and bounds, of which command lines make their flags."""

from __future__ import annotations

import math
import operator
from dataclasses import field, fields
from typing import Any

_BOUNDS = {"above": operator.gt, "at_least": operator.ge, "at_most": operator.le}


def setting(default: Any, help: str, **bounds: Any) -> Any:
    """A dataclass field. Its metadata: help and bounds, which are above (exclusive), at_least, at_most and choices."""
    return field(default=default, metadata={"help": help, **bounds})


def check_bounds(settings: Any) -> None:
    """Raises ValueError where a field is none of its choices, out of its bounds, NaN or infinite. None may pass."""
    for f in fields(settings):
        value, bounds = getattr(settings, f.name), {k: v for k, v in f.metadata.items() if k in _BOUNDS}
        inside = value is None or all(
            _BOUNDS[key](value, bound) and math.isfinite(value) for key, bound in bounds.items()
        )
        if not inside:
            wanted = " and ".join(f"{key.replace('_', ' ')} {bound}" for key, bound in bounds.items())
            raise ValueError(f"{f.name} is {value}: give a number {wanted}")
        if value not in f.metadata.get("choices", (value,)):
            raise ValueError(f"{f.name} is {value!r}: give one of {f.metadata['choices']}")
