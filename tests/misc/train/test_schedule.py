"""Schedules and optimisers against the published PolyOptimizer's golden numbers."""

import numpy as np
import pytest
import torch

from misc.train.loop import Group, Optimization, make_optimizer, set_learning_rate
from misc.train.schedule import cosine, poly, warm_up

FACTORS = ((1.0, True), (2.0, False), (10.0, True), (20.0, False))  # decays or not


@pytest.mark.parametrize(("momentum", "stored", "steps"), [(5e-4, "poly.param_after", 25),
                                                         (0.9, "poly.param_after_if_momentum_0.9", 20)])  # fmt: skip
def test_published_optimizer(momentum, stored, steps, golden):
    """One parameter a group, 1 at first; the loss behind the stored numbers is (p - 0.3)^2."""
    npz = golden("hfpl_probutils")
    lr, want = npz["poly.lr_used_25_steps_max20"], npz[stored]
    parameters = [torch.nn.Parameter(torch.ones(1)) for _ in FACTORS]
    groups = [Group([p], factor, decays) for p, (factor, decays) in zip(parameters, FACTORS, strict=True)]
    how = Optimization(learning_rate=0.01, momentum=momentum, weight_decay=5e-4, schedule="poly")
    optimizer = make_optimizer(groups, how)
    for step in range(steps):
        set_learning_rate(optimizer, how, step, 20)
        np.testing.assert_allclose([g["lr"] for g in optimizer.param_groups], lr[step], rtol=1e-6)
        for p in parameters:
            p.grad = 2 * (p.detach() - 0.3)
        optimizer.step()
        np.testing.assert_allclose([p.item() for p in parameters], want[step], rtol=2e-5, atol=2e-6)


def test_schedules():
    assert [round(poly(s, 4, 1.0), 6) for s in range(6)] == [1, 0.75, 0.5, 0.25, 0.25, 0.25]
    assert cosine(0, 10) == 1 and cosine(10, 10) == pytest.approx(0) and cosine(5, 10) == pytest.approx(0.5)
    assert [warm_up(s, 3) for s in range(5)] == [0.25, 0.5, 0.75, 1, 1]
    assert warm_up(0, 0) == 1


def test_what_is_fixed_is_in_no_group():
    a, b = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2), requires_grad=False)
    optimizer = make_optimizer([Group([a, b]), Group([b], 10)], Optimization(optimizer="adamw", learning_rate=0.1))
    assert [len(g["params"]) for g in optimizer.param_groups] == [1]
