"""Settings of the method: dataclasses whose fields carry help and bounds, of which command lines make their flags."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any

_BOUNDS = {"above": operator.gt, "at_least": operator.ge, "at_most": operator.le}


def setting(default: Any, help: str, **bounds: Any) -> Any:
    """A dataclass field. Its metadata: help and bounds, which are above (exclusive), at_least, at_most and choices."""
    return field(default=default, metadata={"help": help, **bounds})


def out_of_bounds(value: Any, facts: Mapping[str, Any]) -> str | None:
    """What to give instead of a value that is none of the choices, out of bounds, NaN or infinite; None: it is fine.

    facts: the metadata of a setting. None is within all bounds.
    """
    if value not in facts.get("choices", (value,)):
        return f"give one of {', '.join(map(str, facts['choices']))}"
    bounds = {key: bound for key, bound in facts.items() if key in _BOUNDS}
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or (math.isfinite(value) and all(_BOUNDS[key](value, bound) for key, bound in bounds.items())):
        return None
    wanted = " and ".join(f"{key.replace('_', ' ')} {bound}" for key, bound in bounds.items())
    return f"give a number {wanted}".rstrip()


def check_bounds(settings: Any) -> None:
    """Raises ValueError where a field of the dataclass is out of bounds."""
    for f in fields(settings):
        value = getattr(settings, f.name)
        if problem := out_of_bounds(value, f.metadata):
            raise ValueError(f"{f.name} is {value!r}: {problem}")
