"""Fully connected CRF by mean field on the permutohedral lattice: the results of pydensecrf without a compiler.

Energy (Kraehenbuehl & Koltun, NIPS 2011): unaries plus a Gaussian kernel on position and a bilateral kernel on
position and colour, Potts compatibilities, symmetric normalisation.  Both kernels are evaluated by the permutohedral
lattice of Adams, Baek & Davis (Eurographics 2010): splat, blur with (1/2, 1, 1/2) along d+1 axes, slice.

What the lattice costs: it is an approximation of the Gaussian.  Against an exact brute-force mean field on a 45x61
picture with two labels, the mean absolute difference of the marginals is 0.005 to 0.022 and 97.7 to 99.3 % of the
labels agree (four settings of CRF_RECIPES).  Against pydensecrf, the same approximation in float32, it is below 1e-6.
The lattice is not symmetric in the order of its features, so that the order is a parameter of the recipe.

`dense_crf` and `mean_field` run numba kernels on one image, `dense_crf_torch` and `mean_field_torch` the same
lattice in torch operations on a batch, on the device of the tensors.  Numba and torch are imported when needed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pgt.settings import check_bounds, setting

if TYPE_CHECKING:
    from pgt.crf.batch import dense_crf_torch as dense_crf_torch
    from pgt.crf.batch import mean_field_torch as mean_field_torch

CLIP = 1e-5  # the least probability of pydensecrf's unary_from_softmax
FEATURE_ORDERS = ("xyrgb", "yxrgb", "xybgr", "yxbgr")


@dataclass(frozen=True)
class CRFParams:
    """Kernels and iterations of one CRF.

    feature_order: of the bilateral kernel, one of FEATURE_ORDERS, for an image that is RGB in any case: "xyrgb" is
        pydensecrf's addPairwiseBilateral, "yxrgb" its create_pairwise_bilateral, "xybgr" the former on OpenCV's BGR.
        The position kernel always takes x first, as addPairwiseGaussian does.

    Raises ValueError for a standard deviation that is not positive, a negative weight or count, an unknown order.
    """

    gaussian_sxy: float = setting(3, "position kernel: standard deviation in pixels", above=0)
    gaussian_compat: float = setting(3, "position kernel: weight", at_least=0)
    bilateral_sxy: float = setting(80, "bilateral kernel: standard deviation in pixels", above=0)
    bilateral_srgb: float = setting(13, "bilateral kernel: standard deviation in grey levels of 0..255", above=0)
    bilateral_compat: float = setting(10, "bilateral kernel: weight", at_least=0)
    num_iter: int = setting(10, "mean-field iterations", at_least=0)
    feature_order: str = setting("xyrgb", "order of the bilateral kernel's features", choices=FEATURE_ORDERS)

    __post_init__ = check_bounds

    def at_scale(self, factor: float) -> CRFParams:
        """The same CRF for a picture that is 1/factor of the size the parameters were made for."""
        return replace(self, gaussian_sxy=self.gaussian_sxy / factor, bilateral_sxy=self.bilateral_sxy / factor)


CRF_RECIPES = {
    # unary_from_saliency; published on images read by OpenCV
    "wsod_pixel": CRFParams(bilateral_sxy=60, bilateral_srgb=5, bilateral_compat=5, num_iter=1, feature_order="xybgr"),
    # unary_from_prob of (1 - p, p); published with create_pairwise_bilateral
    "wsod_superpixel": CRFParams(num_iter=5, feature_order="yxrgb"),
    # unary_from_prob of a network's map, clipped to 0.05 .. 0.95
    "saliency": CRFParams(bilateral_sxy=60, bilateral_srgb=8, bilateral_compat=6, num_iter=5),
    # unary_from_cam with alpha 1 (la) and 24 (ha; SEAM: 4)
    "wsss_cam": CRFParams(num_iter=10),
    # unary_from_labels with confidence 0.7
    "irn_label": CRFParams(bilateral_sxy=50, bilateral_srgb=5, num_iter=10),
    # unary_from_prob of the softmax
    "wsss_seg": CRFParams(bilateral_sxy=32, num_iter=1),
}


# ---- unaries ----


def unary_from_prob(prob: np.ndarray, clip: float | None = CLIP) -> np.ndarray:
    """-log of probabilities (C, ...) in [0, 1] -> float32 energies of the same shape.

    clip: probabilities below it are raised to it; None keeps zeros, whose energy is inf.
    Equals unary_from_softmax of pydensecrf.
    """
    prob = np.asarray(prob)
    if clip is not None:
        prob = np.clip(prob, clip, 1.0)
    with np.errstate(divide="ignore"):
        return -np.log(prob).astype(np.float32)


def unary_from_saliency(saliency: np.ndarray) -> np.ndarray:
    """Soft energies (2, H, W) float32 of a saliency map p (H, W) in [0, 1]; label 1 is the object.

    -log(q + 1e-8) / (1.05 sigmoid(q)) with q = 1 - p for the background and p for the object: between -0 and 35.
    Raises ValueError for values outside [0, 1].
    """
    saliency = np.asarray(saliency, np.float64)
    if saliency.ndim != 2 or not (saliency.size and saliency.min() >= 0 and saliency.max() <= 1):
        raise ValueError("saliency must be a map (H, W) of values in [0, 1]: divide grey levels by 255")
    prob = np.stack([1 - saliency, saliency])
    return (-np.log(prob + 1e-8) * (1 + np.exp(-prob)) / 1.05).astype(np.float32)


def unary_from_cam(cam: np.ndarray, alpha: float, clip: float | None = CLIP) -> np.ndarray:
    """Energies (P+1, H, W) of the CAMs (P, H, W) in [0, 1] of the present classes; label 0 is the background.

    The background scores (1 - max CAM)^alpha: a low alpha leaves much to the background, a high one little (Ahn & Kwak,
    CVPR 2018, section 3.2).
    """
    cam = np.asarray(cam)
    background = (1 - cam.max(axis=0, keepdims=True)) ** alpha
    return unary_from_prob(np.concatenate([background, cam]), clip)


def unary_from_labels(labels: np.ndarray, num_labels: int, confidence: float) -> np.ndarray:
    """Energies (num_labels, H, W) float32 of a label map (H, W) that is right with probability `confidence`.

    The other labels share 1 - confidence.  Equals unary_from_labels(..., zero_unsure=False) of pydensecrf.
    Raises ValueError for labels outside 0..num_labels-1, fewer than two labels, a confidence outside (0, 1).
    """
    labels = np.asarray(labels)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}: give a probability between 0 and 1, both excluded")
    if num_labels < 2:
        raise ValueError(f"num_labels is {num_labels}: a label map needs at least 2")
    if labels.dtype.kind not in "iu" or not (labels.size and 0 <= labels.min() <= labels.max() < num_labels):
        raise ValueError(f"labels must be integers in 0..{num_labels - 1}: replace ignored pixels first")
    is_label = labels == np.arange(num_labels).reshape(-1, *[1] * labels.ndim)
    return np.where(is_label, np.float32(-np.log(confidence)), np.float32(-np.log((1 - confidence) / (num_labels - 1))))


# ---- inference ----


def dense_crf(image: np.ndarray, prob: np.ndarray, params: CRFParams) -> np.ndarray:
    """Marginals (C, H, W) float32 of an image (H, W, 3) uint8 RGB whose labels have probabilities (C, H, W) in [0, 1].

    The unary is unary_from_prob with its default clip.  Raises ValueError as mean_field does.
    """
    return mean_field(image, unary_from_prob(prob), params)


def mean_field(image: np.ndarray, unary: np.ndarray, params: CRFParams) -> np.ndarray:
    """Marginals (C, H, W) float32 of the CRF with energies `unary` (C, H, W) on an image (H, W, 3) uint8 RGB.

    An infinite energy forbids a label; where all are infinite the labels are equally likely. Marginals are finite and
    sum to 1 at every pixel.  Beside input and output it takes 60 to 160 bytes per pixel and 8 C bytes per lattice
    point; a picture of more colours has more of these points. Kraehenbuehl & Koltun 2011, algorithm 1.

    Raises ValueError if shapes do not meet, the image is not uint8 RGB, a unary is NaN or -inf, or the standard
    deviations are so small against the image that a lattice point does not fit 63 bits.
    """
    image, unary = np.ascontiguousarray(image), np.ascontiguousarray(unary, np.float32)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"image is {image.dtype} {image.shape}: give uint8 RGB of shape (H, W, 3)")
    if unary.ndim != 3 or unary.shape[1:] != image.shape[:2] or not len(unary):
        raise ValueError(f"unary {unary.shape} and image {image.shape} do not meet: give unary (C, H, W)")
    if not unary.min() > -np.inf:
        raise ValueError("unary holds NaN or -inf: give energies, -log of probabilities")
    from pgt.crf.sweeps import infer

    return infer(image, unary, params)


def __getattr__(name: str) -> Any:
    if name not in ("dense_crf_torch", "mean_field_torch"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pgt.crf import batch

    return getattr(batch, name)
