"""Losses that learn from imprecise labels."""

import pytest
import torch

from pgt.self_training import refined, self_training_loss, small_loss_mean, soft_iou_loss


def square(top, left, side=8):
    target = torch.zeros(1, 16, 16)
    target[:, top : top + side, left : left + side] = 1
    return target


def test_soft_iou_of_hard_maps_is_one_minus_their_overlap():
    a, b = square(0, 0), square(0, 4)  # 32 pixels of both, 96 of either
    assert soft_iou_loss(a, b).tolist() == pytest.approx([1 - 32 / 96])
    assert soft_iou_loss(torch.cat([a, b]), torch.cat([a, b])).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert soft_iou_loss(a, square(8, 8)).item() == pytest.approx(1, abs=1e-4)


def test_pixels_on_which_labels_disagree_count_little():
    sure, unsure = square(0, 0), square(0, 0)
    unsure[:, :, 8:] = 0.5
    wrong = square(0, 0) + square(0, 8)
    assert soft_iou_loss(wrong, unsure) < 0.2 * soft_iou_loss(wrong, sure)


def test_an_odd_image_counts_less_and_the_weights_have_no_gradient():
    losses = torch.tensor([0.2, 0.2, 0.8], requires_grad=True)
    assert small_loss_mean(losses, 0).item() == pytest.approx(0.4)
    small_loss_mean(losses, 4).backward()
    weights = torch.softmax(torch.tensor([-0.8, -0.8, -3.2]), 0)
    torch.testing.assert_close(losses.grad, weights)


def test_the_whole_loss_and_what_it_is_made_of():
    torch.manual_seed(0)
    first, second, target = torch.rand(3, 3, 5, 6)
    parts = self_training_loss(first, second, target)
    each = soft_iou_loss(first, target), soft_iou_loss(second, target)
    weights = torch.softmax(-4 * (each[0] + each[1]) / 2, 0)
    torch.testing.assert_close(parts["iou"], (weights * (each[0] + each[1])).sum())
    torch.testing.assert_close(parts["views"], (first - second).abs().mean())
    torch.testing.assert_close(parts["loss"], parts["iou"] + parts["views"])


def test_descent_finds_the_target():
    target, logits = torch.cat([square(0, 0), square(4, 4)]), torch.zeros(2, 16, 16, requires_grad=True)
    for _ in range(50):
        prob = logits.sigmoid()
        (gradient,) = torch.autograd.grad(self_training_loss(prob, prob, target)["loss"], logits)
        logits = (logits - 200 * gradient).detach().requires_grad_()
    assert ((logits > 0) == (target > 0.5)).all()


def test_targets_move_by_a_share():
    assert refined(square(0, 0), square(0, 8), keep=0.75)[0, 0, ::8].tolist() == [0.75, 0.25]


@pytest.mark.parametrize("function", [soft_iou_loss, refined])
def test_maps_that_do_not_meet(function):
    with pytest.raises(ValueError, match="do not meet: give both as"):
        function(torch.zeros(2, 4, 4), torch.zeros(2, 4, 5))
