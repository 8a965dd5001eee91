import subprocess
import sys

import numpy as np
import pytest
import torch

from pgt.pamr import DILATIONS, pamr, pamr_numpy, refine_cams, refine_saliency

PATHS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["kernel", "torch"])


def naive_pamr(image, mask, dilations, num_iter):
    """Pixel by pixel, after the paper, in float64; mask of the image's size."""
    image, mask = image.astype(np.float64), mask.astype(np.float64)
    _, height, width = image.shape
    for _ in range(num_iter):
        refined = np.empty_like(mask)
        for y in range(height):
            for x in range(width):
                around, neighbours = [], []
                for d in dilations:
                    for dy in (-d, 0, d):
                        for dx in (-d, 0, d):
                            place = np.clip(y + dy, 0, height - 1), np.clip(x + dx, 0, width - 1)
                            around.append(image[:, place[0], place[1]])
                            if (dy, dx) != (0, 0):
                                neighbours.append(place)
                std = np.std(around, axis=0, ddof=1)
                distance = [np.abs(image[:, p[0], p[1]] - image[:, y, x]) / (1e-8 + 0.1 * std) for p in neighbours]
                weight = np.exp(-np.mean(distance, axis=1))
                refined[:, y, x] = (
                    sum(w * mask[:, p[0], p[1]] for w, p in zip(weight, neighbours, strict=True)) / weight.sum()
                )
        mask = refined
    return mask


def photograph(photographs, height, width, name="coffee"):
    """A crop of every few pixels: edges, texture and flat parts."""
    picture = getattr(photographs, name)
    return np.ascontiguousarray(picture[:: picture.shape[0] // height, :: picture.shape[1] // width][:height, :width])


def planes(picture):
    return picture.transpose(2, 0, 1).astype(np.float32)


def random_mask(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


@PATHS
@pytest.mark.parametrize("name", ["d1_i1", "d1_i10", "d124_i3", "d1_2_4_8_12_24_i10"])
def test_published_one_channel(golden, dtype, name):
    z = golden("pgt_pamr")
    dilations = {"d1": (1,), "d124": (1, 2, 4)}.get(name.split("_i")[0], DILATIONS)
    image, mask = (torch.from_numpy(z[key]).to(dtype) for key in ("x1", "mask1"))
    refined = pamr(image, mask, dilations, int(name.split("_i")[1]))
    assert refined.dtype == dtype
    np.testing.assert_allclose(refined.numpy(), z[f"out_c1.{name}"], atol=1e-5, rtol=0)


@PATHS
@pytest.mark.parametrize(
    ("name", "dilations", "num_iter", "step"),
    [("d1_i1", (1,), 1, 7), ("d1_2_4_8_12_24_i10", DILATIONS, 10, 4)],
)
def test_published_batch_of_21_channels(golden, dtype, name, dilations, num_iter, step):
    z = golden("pgt_pamr")
    image, mask = (torch.from_numpy(z[key]).to(dtype) for key in ("x2_batch", "mask21"))
    refined = pamr(image, mask, dilations, num_iter)[:, ::step]
    np.testing.assert_allclose(refined.numpy(), z[f"out_c21_batch2.{name}"], atol=1e-5, rtol=0)


def test_published_defaults_and_binary_variants(golden):
    z = golden("pgt_pamr")
    refined = pamr_numpy(z["x1"][0], z["mask1"][0])
    np.testing.assert_allclose(refined, z["run_pamr_c1"][0], atol=1e-5, rtol=0)
    scaled = refined / (refined.max() + 1e-5)
    np.testing.assert_allclose(scaled, z["binary_pamr_none"][0], atol=1e-5, rtol=0)
    np.testing.assert_array_equal(scaled > 0.4, z["binary_pamr_0.4"][0] == 1)


def test_units_of_the_image_do_not_matter(golden):
    """The published input is normalised; the same picture in 0..255 gives the same mask."""
    z = golden("pgt_pamr")
    picture = torch.from_numpy(planes(golden.image("coffee_101x151")))[None]
    image = torch.nn.functional.interpolate(picture, (45, 61), mode="bilinear", align_corners=False)
    refined = pamr(image, torch.from_numpy(z["mask1"]))
    np.testing.assert_allclose(refined.numpy(), z["run_pamr_c1"], atol=2e-5, rtol=0)


def test_refined_saliency_is_the_published_chain(photographs):
    picture, saliency = photograph(photographs, 101, 150), random_mask(26, 38)
    interpolate = torch.nn.functional.interpolate
    image = interpolate(torch.from_numpy(planes(picture))[None], (25, 37), mode="bilinear", align_corners=False)
    refined = pamr(image, torch.from_numpy(saliency)[None, None])
    expected = interpolate(refined / (refined.max() + 1e-5), (101, 150), mode="bilinear", align_corners=False)
    result = refine_saliency(picture, saliency)
    assert result.shape == (101, 150) and result.dtype == np.float32
    np.testing.assert_allclose(result, expected[0, 0].numpy(), atol=1e-5, rtol=0)
    assert 0.9 < result.max() <= 1 and result.min() >= 0


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (1, 9), (7, 2)])
def test_refined_saliency_of_tiny_pictures_and_empty_maps(photographs, size):
    picture = photograph(photographs, *size)
    np.testing.assert_allclose(refine_saliency(picture, np.full((2, 3), 0.7)), 1, atol=1e-4)
    np.testing.assert_array_equal(refine_saliency(picture, np.zeros((2, 3))), 0)


def test_refined_maps_of_classes_are_stretched(photographs):
    picture, cams = photograph(photographs, 50, 75), np.stack([random_mask(100, 150), np.full((100, 150), 0.3)])
    refined = refine_cams(picture, cams)
    assert refined.shape == (2, 100, 150) and refined.dtype == np.float32
    assert refined[0].min() >= 0 and 0.9 < refined[0].max() <= 1 and refined[1].max() < 0.01
    small = torch.nn.functional.interpolate(torch.from_numpy(cams)[None].float(), (50, 75), mode="bilinear")
    expected = pamr(torch.from_numpy(planes(picture))[None], small)[0, :1].numpy()
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    np.testing.assert_allclose(refine_cams(picture, small[0, :1].numpy()), expected, atol=1e-4)
    assert refine_cams(picture, np.zeros((0, 100, 150), np.float32)).shape == (0, 100, 150)


@PATHS
@pytest.mark.parametrize("size", [(9, 7), (1, 8), (8, 1), (1, 1)])
@pytest.mark.parametrize("dilations", [(1,), (2, 5), DILATIONS])
def test_equals_the_naive_loops(photographs, dtype, size, dilations):
    image, mask = planes(photograph(photographs, *size)), random_mask(2, *size)
    refined = pamr(torch.from_numpy(image)[None].to(dtype), torch.from_numpy(mask)[None].to(dtype), dilations, 2)
    np.testing.assert_allclose(refined[0].numpy(), naive_pamr(image, mask, dilations, 2), atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", ["coffee", "astronaut", "rocket"])
def test_both_paths_agree(photographs, name):
    image = torch.from_numpy(planes(photograph(photographs, 60, 80, name)))[None].repeat(2, 1, 1, 1)
    image[1] = image[1].flip(-1) / 255
    mask = torch.from_numpy(random_mask(2, 3, 31, 17))
    kernel, plain = pamr(image, mask), pamr(image.double(), mask.double())
    np.testing.assert_allclose(kernel.numpy(), plain.numpy(), atol=1e-5, rtol=0)
    for i in range(2):
        np.testing.assert_array_equal(pamr_numpy(image[i].numpy(), mask[i].numpy()), kernel[i].numpy())


def test_half_precision_is_computed_in_single(photographs):
    image = torch.from_numpy(planes(photograph(photographs, 20, 30)))[None]
    mask = torch.from_numpy(random_mask(1, 1, 20, 30)).half()
    refined = pamr(image, mask)
    assert refined.dtype == torch.float16
    np.testing.assert_allclose(refined.float().numpy(), pamr(image, mask.float()).numpy(), atol=5e-4, rtol=0)


@PATHS
@pytest.mark.parametrize("value", [0.0, 1.0, 0.3])
def test_constant_mask_stays(photographs, dtype, value):
    image = torch.from_numpy(planes(photograph(photographs, 30, 40)))[None].to(dtype)
    refined = pamr(image, torch.full((1, 2, 5, 6), value, dtype=dtype))
    assert refined.shape == (1, 2, 30, 40)
    np.testing.assert_allclose(refined.numpy(), value, atol=3e-6, rtol=0)


def test_mask_of_ones_stays_exactly(photographs):
    image = planes(photograph(photographs, 30, 40))
    np.testing.assert_array_equal(pamr_numpy(image, np.ones((1, 5, 6))), np.ones((1, 30, 40)))


@PATHS
def test_constant_image_takes_plain_means(dtype):
    image = torch.full((1, 3, 12, 10), 200.3, dtype=dtype)
    mask = torch.from_numpy(random_mask(1, 1, 12, 10)).to(dtype)
    refined = pamr(image, mask, (1,), 1)
    ring = torch.ones(1, 1, 3, 3, dtype=dtype) / 8
    ring[0, 0, 1, 1] = 0
    padded = torch.nn.functional.pad(mask, (1, 1, 1, 1), mode="replicate")
    np.testing.assert_allclose(refined.numpy(), torch.conv2d(padded, ring).numpy(), atol=1e-6, rtol=0)


@PATHS
def test_mask_moves_to_the_edge(dtype):
    """Two flat halves: a soft mask that ends three pixels off their border ends at it afterwards."""
    image = torch.zeros(1, 3, 40, 60, dtype=dtype)
    image[..., 30:] = 100
    mask = torch.zeros(1, 1, 40, 60, dtype=dtype)
    mask[..., 33:] = 1
    refined = pamr(image, mask)[0, 0]
    assert refined[:, 30:].min() > refined[:, :30].max() + 0.2


@pytest.mark.parametrize("axis", [1, 2])
def test_flipped_picture_gives_flipped_mask(photographs, axis):
    image, mask = planes(photograph(photographs, 37, 50)), random_mask(2, 37, 50)
    flipped = pamr_numpy(np.flip(image, axis), np.flip(mask, axis))
    np.testing.assert_allclose(np.flip(flipped, axis), pamr_numpy(image, mask), atol=1e-6, rtol=0)


def test_transposed_picture_gives_transposed_mask(photographs):
    """Also: memory in Fortran order is the same picture."""
    image, mask = planes(photograph(photographs, 30, 41)), random_mask(1, 30, 41)
    turned = pamr_numpy(image.transpose(0, 2, 1), mask.transpose(0, 2, 1))
    np.testing.assert_allclose(turned.transpose(0, 2, 1), pamr_numpy(image, mask), atol=1e-6, rtol=0)
    np.testing.assert_array_equal(pamr_numpy(np.asfortranarray(image), mask), pamr_numpy(image, mask))


def test_inputs_stay_and_results_repeat(photographs):
    image, mask = planes(photograph(photographs, 30, 41)), random_mask(1, 30, 41)
    before = image.copy(), mask.copy()
    first = pamr_numpy(image, mask)
    np.testing.assert_array_equal(first, pamr_numpy(image, mask))
    unchanged = pamr_numpy(image, mask, num_iter=0)
    unchanged[:] = 5
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])


def test_needs_no_torch():
    code = "import sys, pgt.pamr; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


IMAGE, MASK = torch.zeros(1, 3, 4, 5), torch.zeros(1, 2, 4, 5)


@pytest.mark.parametrize(
    ("image", "mask", "settings", "message"),
    [
        (IMAGE[:, :1], MASK, {}, "image must be"),
        (IMAGE[0], MASK, {}, "image must be"),
        (IMAGE, MASK[0], {}, "mask must be"),
        (IMAGE.repeat(2, 1, 1, 1), MASK, {}, "2 images but masks for 1"),
        (IMAGE[..., :0], MASK, {}, "is empty"),
        (IMAGE, MASK[:, :0], {}, "is empty"),
        (IMAGE[:0], MASK[:0], {}, "is empty"),
        (IMAGE.byte(), MASK, {}, "floating point"),
        (IMAGE, MASK.bool(), {}, "floating point"),
        (IMAGE, MASK.to("meta"), {}, "move one to the other"),
        (IMAGE + torch.nan, MASK, {}, "NaN or infinite"),
        (IMAGE, MASK / 0, {}, "NaN or infinite"),
        (IMAGE, MASK, {"dilations": ()}, "dilations must be"),
        (IMAGE, MASK, {"dilations": (1, 0)}, "dilations must be"),
        (IMAGE, MASK, {"dilations": (1.5,)}, "dilations must be"),
        (IMAGE, MASK, {"num_iter": -1}, "num_iter must be"),
        (IMAGE, MASK, {"num_iter": 2.0}, "num_iter must be"),
    ],
)
def test_bad_input_is_refused(image, mask, settings, message):
    with pytest.raises(ValueError, match=message):
        pamr(image, mask, **settings)


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (np.zeros((4, 5, 3)), np.zeros((1, 4, 5)), "image must be"),
        (np.zeros((3, 4, 5)), np.zeros((4, 5)), "mask must be"),
        (np.full((3, 4, 5), np.inf), np.zeros((1, 4, 5)), "NaN or infinite"),
        (np.zeros((3, 4, 5)), np.full((1, 4, 5), np.nan), "NaN or infinite"),
    ],
)
def test_bad_arrays_are_refused(image, mask, message):
    with pytest.raises(ValueError, match=message):
        pamr_numpy(image, mask)


@pytest.mark.parametrize(
    ("image", "saliency", "message"),
    [
        (np.zeros((8, 8, 3)), np.zeros((2, 2)), "uint8 RGB"),
        (np.zeros((8, 8), np.uint8), np.zeros((2, 2)), "uint8 RGB"),
        (np.zeros((8, 8, 4), np.uint8), np.zeros((2, 2)), "uint8 RGB"),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((1, 2, 2)), "one map"),
        (np.zeros((8, 8, 3), np.uint8), np.full((2, 2), -0.1), "negative"),
        (np.zeros((8, 8, 3), np.uint8), np.full((2, 2), np.nan), "NaN"),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((0, 2)), "empty"),
        (np.zeros((0, 8, 3), np.uint8), np.zeros((2, 2)), "with pixels"),
    ],
)
def test_bad_saliency_is_refused(image, saliency, message):
    with pytest.raises(ValueError, match=message):
        refine_saliency(image, saliency)
