"""Prototype classifiers: what they tell apart, and what they do not see."""

import pytest
import torch

from net.prototypes import class_prototypes


def made(n=60, seed=0):
    """Positive features with a large common part, of three classes that any image may have, and its labels."""
    g = torch.Generator().manual_seed(seed)
    label = (torch.rand(n, 3, generator=g) < 0.4).float()
    return 5 + torch.rand(n, 16, generator=g) + label @ torch.eye(3, 16) * 2, label


def test_a_class_is_told_from_its_absence():
    (x, label), (held_out, truth) = made(), made(seed=1)
    weights = class_prototypes(x, label)
    logits = held_out @ weights.T
    for k in range(3):
        assert logits[truth[:, k] > 0, k].min() > logits[truth[:, k] == 0, k].max()
    assert torch.allclose((x @ weights.T).std(0, correction=0), torch.ones(3), atol=1e-4)


def test_the_mean_of_all_has_logit_zero():
    x, label = made()
    assert (x.mean(0) @ class_prototypes(x, label).T).abs().max() < 1e-4


def test_a_class_of_no_image_or_of_all_is_zero():
    x, label = made()
    label[:, 0], label[:, 1] = 0, 1
    weights = class_prototypes(x, label)
    assert not weights[:2].any() and weights[2].any() and weights.isfinite().all()


@pytest.mark.parametrize("shapes", [((3, 4), (2, 1)), ((3,), (3, 1)), ((0, 4), (0, 1))])
def test_shapes_that_do_not_fit(shapes):
    with pytest.raises(ValueError, match="both start with images"):
        class_prototypes(*(torch.ones(shape) for shape in shapes))
