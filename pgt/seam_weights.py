"""What pgt.losses.seam_loss weighs by; without torch, for those who make flags of it."""

from __future__ import annotations

from dataclasses import dataclass

from pgt.settings import check_bounds, setting


@dataclass(frozen=True)
class SEAMWeights:
    """What seam_loss adds to SEAM. Defaults: HFPL on VOC (on COCO fsl_weight is 0.2); both weights 0: SEAM alone.

    Raises ValueError for a number out of its bounds. fsl_sigma None: pairs at all distances weigh alike.
    """

    isl_weight: float = setting(
        0.2, "share of the importance sampling loss in the first view's classification; 0: off", at_least=0, at_most=1
    )
    isl_samples: int = setting(10, "pixels that it draws per class", at_least=1)
    fsl_weight: float = setting(1.0, "weight of the feature similarity loss; 0: off", at_least=0)
    fsl_mu: float = setting(2.5, "the higher, the sooner two colours count as unlike")
    fsl_sigma: float | None = setting(5.0, "standard deviation of its Gaussian, in cells of the maps", above=0)

    __post_init__ = check_bounds
