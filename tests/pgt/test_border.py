"""What of an image is unlike its border."""

import cv2
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from pgt.border import barrier_distance, border_distance, border_prior, with_border_prior


def exact_barrier(channel):
    """By brute force: a pixel is reached from the border within [low, high] for every pair of levels."""
    best = np.full(channel.shape, np.inf)
    levels = np.unique(channel)
    for low in levels:
        for high in levels[levels >= low]:
            open_ = (channel >= low) & (channel <= high)
            reached = open_.copy()
            reached[1:-1, 1:-1] = False
            while True:
                around = sliding_window_view(np.pad(reached, 1), (3, 3))[..., [0, 1, 1, 2], [1, 0, 2, 1]].any(-1)
                more = open_ & (reached | around)
                if (more == reached).all():
                    break
                reached = more
            best[reached] = np.minimum(best[reached], high - low)
    return best


def test_barriers_are_those_of_brute_force_or_little_above():
    rng = np.random.default_rng(0)
    channel = rng.integers(0, 6, (12, 15)).astype(np.float32)
    ours, exact = barrier_distance(channel), exact_barrier(channel)
    assert (ours >= exact).all() and (ours - exact).max() <= 1 and (ours == exact).mean() > 0.8
    smooth = (4 * cv2.GaussianBlur(channel, (0, 0), 1.5)).round()
    assert (barrier_distance(smooth) == exact_barrier(smooth)).all()
    walled = np.zeros((9, 9), np.float32)
    walled[2:7, 2:7], walled[4, 4] = 5, 3  # what lies within a wall costs the wall
    assert barrier_distance(walled)[4, 4] == 5 and barrier_distance(walled)[1, 1] == 0


def test_a_disc_on_a_plain_ground_is_found_whatever_the_colours():
    y, x = np.mgrid[:60, :80]
    disc = (y - 30) ** 2 + (x - 40) ** 2 < 15**2
    for inner, outer in (((200, 30, 40), (60, 90, 200)), ((20, 20, 20), (230, 230, 230))):
        image = np.where(disc[..., None], np.uint8(inner), np.uint8(outer))
        prior = border_prior(image)
        assert prior.dtype == np.float32 and prior.min() == 0 and prior.max() == 1
        assert prior[disc].mean() > 0.8 and prior[~disc].mean() < 0.1


def test_an_object_that_touches_one_strip_is_still_unlike_the_others():
    image = np.full((60, 80, 3), (60, 90, 200), np.uint8)
    image[30:, 30:50] = (200, 30, 40)  # cut off by the lower border
    prior = border_prior(image)
    assert prior[35:55, 32:48].mean() > 5 * prior[:25].mean()
    lab = image.astype(np.float32)
    assert border_distance(lab)[40, 40] > 10 * border_distance(lab)[10, 10]


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (30, 20)])
def test_a_plain_image_has_no_object(size):
    assert not border_prior(np.full((*size, 3), 7, np.uint8)).any()


def test_the_map_and_the_prior_share(photographs):
    image = photographs.astronaut
    cam = np.zeros(image.shape[:2], np.uint8)
    assert with_border_prior(image, cam, 0.3) is cam  # no object: none is made of the prior alone
    cam[100:200, 150:300] = 200
    assert with_border_prior(image, cam, 0) is cam
    both = with_border_prior(image, cam, 0.3)
    wanted = 0.7 * cam / 255 + 0.3 * border_prior(image)
    wanted = 255 * (wanted - wanted.min()) / np.ptp(wanted)
    assert both.dtype == np.uint8 and both.min() == 0 and both.max() == 255
    assert np.abs(both - wanted).max() <= 0.51
    assert np.abs(np.float32(with_border_prior(image, cam, 1)) - 255 * border_prior(image)).max() <= 0.51


def test_what_does_not_fit_is_told():
    with pytest.raises(ValueError, match="give RGB"):
        border_prior(np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="different sizes"):
        with_border_prior(np.zeros((4, 4, 3), np.uint8), np.ones((4, 5), np.uint8), 0.3)
