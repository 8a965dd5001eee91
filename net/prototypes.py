"""A classifier to start from, out of features alone: for trainings too short, or sets too small, to find one."""

import torch
from torch import Tensor

_EPS = 1e-6


def class_prototypes(features: Tensor, label: Tensor) -> Tensor:
    """Pooled features (n,D) of images and their labels (n,K), multi-hot -> classifier weights (K,D) without bias.

    A class's weight is the mean feature of its images less that of the others, without its part along the mean of all,
    which a bias would take away; over the images its logits have standard deviation 1. 0 for a class that no image has,
    or that all have. Raises ValueError for other shapes.
    """
    if features.ndim != 2 or label.ndim != 2 or len(features) != len(label) or not len(label):
        raise ValueError(f"features {tuple(features.shape)} and label {tuple(label.shape)}: both start with images.")
    x, y = features.double(), (label > 0).double()
    mean = x.mean(0)
    share = y.mean(0)[:, None]
    weights = (y - y.mean(0)).T @ (x - mean) / (len(y) * share * (1 - share)).clamp(min=_EPS)
    return calibrated(weights, features)


def calibrated(weights: Tensor, features: Tensor) -> Tensor:
    """Classifier weights (K,D) for pooled features (n,D) -> the same without their part along the mean of all features,
    which a bias would take away, and so long that a class's logits have standard deviation 1 over the images."""
    x, weights = features.double(), weights.double()
    mean = x.mean(0)
    weights = weights - (weights @ mean)[:, None] * mean / (mean @ mean).clamp(min=_EPS)
    spread = (x @ weights.T).std(0, correction=0)[:, None]
    return torch.where(spread > _EPS, weights / spread.clamp(min=_EPS), 0.0).to(features.dtype)
