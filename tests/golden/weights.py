"""Weights of a published network made from the names of its tensors, so that no golden file needs to hold them."""

import re
import zlib
from collections.abc import Iterable

import numpy as np

LAST_OF_A_BRANCH = re.compile(r"(^|\.)(layer\d+\.\d+\.bn3|b[2-5](_\d)?\.conv_branch2b1|b[67]\.conv_branch2b2)\.weight$")


def state_dict(spec: Iterable[str]) -> dict[str, np.ndarray]:
    """spec: "name|sides|dtype|source" of each tensor in order; those of one source, tied ones, are the same array."""
    made: dict[str, np.ndarray] = {}
    state = {}
    for name, sides, _, source in (item.split("|") for item in spec):
        if source not in made:
            made[source] = tensor(source, tuple(int(side) for side in sides.split(",") if side))
        state[name] = made[source]
    return state


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Drawn by numpy's generator, seeded with the CRC-32 of the name, so that activations neither vanish nor explode.

    Filters have mean 0 (where they have 8 weights or more) and He's variance, norms are near the identity, and what
    closes a residual branch is 0.3 times as large.
    """
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if kind in ("bias", "running_mean"):
        values = 0.1 * values
    elif kind == "running_var":
        values = 1 + 0.1 * np.abs(values)
    elif kind == "weight":
        gain = 0.3 if LAST_OF_A_BRANCH.search(name) else 1.0
        if len(shape) == 1:
            values = gain * (1 + 0.1 * values)
        else:
            inputs = int(np.prod(shape[1:]))
            if inputs >= 8:
                values = values - values.mean(axis=tuple(range(1, len(shape))), keepdims=True)
            values = gain * values * np.sqrt(2 / inputs)
    else:
        raise KeyError(f"there is no rule for {name}")
    return np.asarray(values, np.float32).reshape(shape)
