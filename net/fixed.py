"""What of a backbone a training leaves as it is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fixed:
    """layers: names of modules; statistics: the running statistics of all batch norms (in training mode too they are
    used, and not moved); norms: their weights and biases as well."""

    layers: tuple[str, ...] = ()
    statistics: bool = False
    norms: bool = False
