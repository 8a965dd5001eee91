"""Random changes of images: shapes, determinism, alignment, ranges."""

import numpy as np
import pytest

from misc.train import augment

FILL = (124, 116, 104)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("size", [(300, 451), (40, 451), (40, 30)])
def test_random_crop_keeps_images_and_labels_together(size, photographs):
    image = augment.resize(photographs.cat, size)
    place = np.arange(size[0] * size[1], dtype=np.int64).reshape(size)
    for seed in range(5):
        window, where = augment.random_crop([image, place], 64, [FILL, -1], rng(seed))
        assert window.shape == (64, 64, 3) and where.shape == (64, 64)
        inside = where >= 0
        assert inside.sum() == min(64, size[0]) * min(64, size[1])
        np.testing.assert_array_equal(window[inside], image.reshape(-1, 3)[where[inside]])
        assert (window[~inside] == FILL).all()


def test_same_draws_same_bytes(photographs):
    def change(seed):
        r = rng(seed)
        image = augment.random_resized_crop(photographs.cat, 96, (0.3, 1), r)
        image = augment.random_flip([image], r)[0]
        image = augment.color_jitter(image, 0.3, 0.1, r)
        return augment.random_erasing(image, 1.0, (0.1, 0.2), FILL, r)

    np.testing.assert_array_equal(change(1), change(1))
    assert (change(1) != change(2)).any()
    assert change(1).shape == (96, 96, 3) and change(1).dtype == np.uint8


def test_random_resize_long(photographs):
    sides = {max(augment.random_resize_long(photographs.cat, 100, 104, rng(s)).shape) for s in range(40)}
    assert sides == set(range(100, 105))


def test_jitter_of_strength_0_changes_nothing_and_gray_stays_gray(photographs):
    np.testing.assert_array_equal(augment.color_jitter(photographs.cat, 0.0, 0.0, rng()), photographs.cat)
    gray = np.repeat(photographs.cat[..., :1], 3, axis=2)
    changed = augment.color_jitter(gray, 0.3, 0.1, rng(3)).astype(int)
    assert np.ptp(changed, axis=2).max() <= 1 and (changed != gray).any()


def test_hsv_jitter_moves_a_whole_picture_alike():
    np.testing.assert_array_equal(augment.hsv_jitter(np.full((2, 2, 3), 9, np.uint8), 0, rng()), 9)
    red = np.full((3, 4, 3), (200, 50, 50), np.uint8)
    changed = [augment.hsv_jitter(red, 10, rng(seed)) for seed in range(20)]
    assert all((c == c[0, 0]).all() and abs(c.max() - 200.0) <= 10 for c in changed)
    assert len({tuple(c[0, 0]) for c in changed}) > 10


def test_maps_are_resized_one_by_one():
    maps = np.random.default_rng(0).random((3, 8, 6), np.float32)
    assert augment.resize_maps(maps, (8, 6)) is maps
    whole = augment.resize_maps(maps, (16, 9))
    assert whole.shape == (3, 16, 9) and (whole[1:2] == augment.resize_maps(maps[1:2], (16, 9))).all()


def test_erasing_covers_the_share_that_it_says(photographs):
    image = np.full((100, 120, 3), 7, np.uint8)
    shares = [(augment.random_erasing(image, 1.0, (0.1, 0.2), FILL, rng(s)) != 7).any(2).mean() for s in range(30)]
    assert min(shares) > 0.08 and max(shares) < 0.22
    assert augment.random_erasing(image, 0.0, (0.1, 0.2), FILL, rng()) is image


def test_flip():
    a = np.arange(6, dtype=np.uint8).reshape(1, 6)
    seen = {tuple(augment.random_flip([a], rng(s))[0][0]) for s in range(10)}
    assert seen == {(0, 1, 2, 3, 4, 5), (5, 4, 3, 2, 1, 0)}


@pytest.mark.parametrize("channels", [(), (1,), (3,), (21,), (600,)])
def test_flip_of_any_number_of_channels(channels):
    a = rng().random((5, 7, *channels), np.float32)
    flips = [augment.random_flip([a, a], rng(s)) for s in range(10)]
    assert all((one == two).all() and one.shape == a.shape for one, two in flips)
    assert {(one == a[:, ::-1]).all() for one, _ in flips} == {True, False}
