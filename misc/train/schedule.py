"""Learning rates over a training."""

import math


def poly(step: int, num_steps: int, power: float = 0.9) -> float:
    """Factor of the learning rate at step 0, 1, ...: (1 - step / num_steps)^power; after the end that of the last step.

    Source: generatePGT, IRN and HFPL (PolyOptimizer).
    """
    return (1 - min(step, num_steps - 1) / num_steps) ** power


def cosine(step: int, num_steps: int) -> float:
    """Factor of the learning rate: half a cosine from 1 to 0 (Loshchilov & Hutter, ICLR 2017)."""
    return 0.5 * (1 + math.cos(math.pi * min(step, num_steps) / num_steps))


def warm_up(step: int, num_warm: int) -> float:
    """Factor that rises in equal parts to 1 within the first num_warm steps."""
    return min(1.0, (step + 1) / (num_warm + 1))
