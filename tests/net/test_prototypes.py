"""Prototype classifiers: what they tell apart, and what they do not see."""

import pytest
import torch

from net.prototypes import calibrated, class_prototypes


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


def test_calibrated_rows_differ_in_length_and_common_part_alone():
    x, _ = made()
    rows = torch.randn(4, 16, generator=torch.Generator().manual_seed(2)) * torch.tensor([[0.1], [1], [10], [0]])
    out = calibrated(rows, x)
    logits = x @ out.T
    assert torch.allclose(logits[:, :3].std(0, correction=0), torch.ones(3), atol=1e-4) and not out[3].any()
    assert (x.mean(0) @ out.T).abs().max() < 1e-4
    left = rows[:3] - out[:3] * (rows[:3] * out[:3]).sum(1, keepdim=True) / (out[:3] ** 2).sum(1, keepdim=True)
    mean = x.mean(0) / x.mean(0).norm()
    assert torch.allclose(left, (left @ mean)[:, None] * mean, atol=1e-4)
