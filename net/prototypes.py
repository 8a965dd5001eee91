"""A classifier to start from, out of features alone: for trainings too short, or sets too small, to find one."""

import torch
from torch import Tensor
from torch.nn import functional as F

PULL = 0.1  # of fitted
_EPS = 1e-6
_ITERATIONS = 100


def class_prototypes(features: Tensor, label: Tensor) -> Tensor:
    """Pooled features (n,D) of images and their labels (n,K), multi-hot -> classifier weights (K,D) without bias.

    A class's weight is the mean feature of its images less that of the others, without its part along the mean of all,
    which a bias would take away; over the images its logits have standard deviation 1. 0 for a class that no image has,
    or that all have. Raises ValueError for other shapes.
    """
    _check(features, label)
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


def fitted(weights: Tensor, features: Tensor, label: Tensor, pull: float = PULL) -> tuple[Tensor, Tensor]:
    """Classifier weights (K,D), pooled features (n,D) of images and their labels (n,K), multi-hot -> weights (K,D) and
    biases (K,) whose sigmoid is the probability that an image has a class: a logistic regression, whose weights are
    pulled to multiples of those given.

    Where a class has few images, that is what is known from elsewhere, at the rate of this set. pull: what the squared
    distance from those multiples, and of these from 1, costs beside the mean loss of an image. Raises ValueError for
    other shapes.
    """
    _check(features, label)
    x, y, known = features.double(), (label > 0).double(), weights.double()
    share = y.mean(0).clamp(0.5 / len(y), 1 - 0.5 / len(y))
    scale = torch.ones(len(known), 1, dtype=x.dtype).requires_grad_()
    moved, bias = torch.zeros_like(known).requires_grad_(), (share / (1 - share)).log().requires_grad_()
    solver = torch.optim.LBFGS([scale, moved, bias], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        logits = x @ (scale * known + moved).T + bias
        far = (moved**2).sum() + ((scale - 1) ** 2).sum()
        total = F.binary_cross_entropy_with_logits(logits, y, reduction="sum") / len(y) + pull / 2 * far
        total.backward()
        return total

    with torch.enable_grad():
        solver.step(loss)
    return (scale * known + moved).detach().to(features.dtype), bias.detach().to(features.dtype)


def _check(features: Tensor, label: Tensor) -> None:
    if features.ndim != 2 or label.ndim != 2 or len(features) != len(label) or not len(label):
        raise ValueError(f"features {tuple(features.shape)} and label {tuple(label.shape)}: both start with images.")
