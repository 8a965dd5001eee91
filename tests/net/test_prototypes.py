"""Prototype classifiers: what they tell apart, and what they do not see."""

import pytest
import torch

from net.prototypes import calibrated, class_prototypes, fitted


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


def test_fitted_tells_how_probable_a_class_is():
    (x, label), (held_out, truth) = made(), made(2000, seed=1)
    x, held_out = (f + torch.randn(f.shape, generator=torch.Generator().manual_seed(3)) for f in (x, held_out))
    rows = class_prototypes(x, label)
    weights, bias = fitted(rows, x, label)
    prob = (held_out @ weights.T + bias).sigmoid()
    assert (prob.mean(0) - truth.mean(0)).abs().max() < 0.1
    own = torch.nn.functional.binary_cross_entropy(prob, truth)
    assert own < torch.nn.functional.binary_cross_entropy((held_out @ rows.T).sigmoid(), truth) - 0.02
    assert all(torch.equal(a, b) for a, b in zip(fitted(rows, x, label), (weights, bias), strict=True))


def test_fitted_stays_with_what_is_known_where_it_is_pulled():
    x, label = made()
    rows = class_prototypes(x, label)
    near, _ = fitted(rows, x, label, pull=1e6)
    assert torch.allclose(near, rows, atol=1e-3)
    none, bias = fitted(torch.zeros(2, 16), x, torch.stack([torch.zeros(60), torch.ones(60)], 1))
    assert none.isfinite().all() and bias[0] < -3 and bias[1] > 3
