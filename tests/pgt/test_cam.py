"""Multi-scale CAMs: the fused form against the plain one, and the symmetries that both must have."""

import numpy as np
import pytest
import torch
from PIL import Image

import net
from benchmarks.make_cam import plain_saliency
from net.network import NetFacts
from net.resnet38 import ResNet38, published
from net.seam import SEAMNet
from net.weights import load
from pgt.cam import (
    fuse_cams,
    multi_scale_saliency,
    normalised_maps,
    present_class_cam,
    pyramid,
    pyramid_cams,
    relevant_classes,
)
from pgt.sizes import network_size, quarter_size

SCALES = (1.0, 0.5, 1.5)


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    lite = load("efficientnet_lite0", None, None)[0]
    return {"softmax": lite, "sigmoid": net.build("resnet50", 20).eval()}


@pytest.fixture
def images(photographs):
    return [photographs.cat[:120, :160].copy(), photographs.coffee[100:220, 200:360].copy()]


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_fused_equals_plain(head, networks, images):
    plain_net, fast_net = networks[head], net.for_inference(networks[head])
    maps = multi_scale_saliency(fast_net, images, SCALES)
    assert not torch.equal(*maps)
    for image, got in zip(images, maps, strict=True):
        torch.testing.assert_close(got, plain_saliency(plain_net, image, SCALES), rtol=0, atol=1e-4)
        assert got.shape == (30, 40) and got.min() >= 0 and 0.99 < got.max() <= 1


def test_pictures_of_unlike_sizes_that_the_network_sees_in_one_share_a_batch(networks, images):
    network, sizes = networks["softmax"], [(120, 160), (113, 150)]
    pictures = [np.ascontiguousarray(image[:h, :w]) for image, (h, w) in zip(images, sizes, strict=True)]
    assert len({network_size(size, 1.0, 64) for size in sizes}) == 1
    together = multi_scale_saliency(network, pictures, SCALES, step=64)
    for picture, got in zip(pictures, together, strict=True):
        assert got.shape == quarter_size(picture.shape[:2])
        torch.testing.assert_close(got, multi_scale_saliency(network, [picture], SCALES, step=64)[0], rtol=0, atol=1e-4)


def test_sizes_by_steps():
    assert network_size((300, 400), 1.0) == (300, 400) and network_size((300, 400), 0.5) == (150, 200)
    assert network_size((300, 400), 1.0, 64) == (321, 385) and network_size((300, 400), 0.5, 64) == (161, 193)
    assert network_size((500, 375), 2.0, 64) == (1025, 769) and network_size((3, 70), 1.0, 64) == (65, 65)
    assert network_size((10, 1), 0.5) == (32, 32) and network_size((10, 1), 0.5, least=1) == (5, 1)
    for side in range(1, 2000, 7):  # odd at every stride: the centres of cells lie evenly, down to a stride of 32
        for scale in (0.5, 1.0, 1.5, 2.0):
            assert (network_size((side, side), scale, 64)[0] - 1) % 32 == 0
            assert abs(network_size((side, side), 1.0, 64)[0] - side) <= 32 or side < 33


def test_a_data_set_comes_in_few_shapes(shared):
    """By steps the network meets at most 24 shapes of ECSSD's 250 pictures, at the four scales; without them 278."""
    sizes = [Image.open(path).size[::-1] for path in sorted(shared("data", "ecssd", "images").iterdir())]
    shapes = {step: {network_size(s, k, step) for s in sizes for k in (1.0, 0.5, 1.5, 2.0)} for step in (0, 64)}
    assert len(shapes[64]) <= 24 and len(shapes[0]) > 200


def test_class_maps_of_a_batch_are_those_of_each_image(photographs):
    torch.manual_seed(0)
    network = SEAMNet(ResNet38(), NetFacts("resnet38", 4, head="seam")).eval()
    images = [photographs.cat[:64, :96].copy(), photographs.coffee[:64, :96].copy()]
    keys, sizes = [torch.tensor([0, 2]), torch.tensor([1, 2, 3])], [(64, 96), (70, 101)]
    maps = pyramid_cams(network, [pyramid(image, (1.0, 0.5)) for image in images], keys, sizes)
    for image, own, size, got in zip(images, keys, sizes, maps, strict=True):
        torch.testing.assert_close(got, present_class_cam(network, image, own, (1.0, 0.5), size), rtol=0, atol=1e-4)


def test_a_mirrored_picture_has_the_mirrored_map(networks, images):
    for network in networks.values():
        plain, mirrored = (
            multi_scale_saliency(network, [i], SCALES)[0] for i in (images[0], images[0][:, ::-1].copy())
        )
        torch.testing.assert_close(mirrored, plain.flip(-1), rtol=0, atol=1e-4)


def test_same_input_same_bytes(networks, images):
    first, second = (multi_scale_saliency(networks["softmax"], images[:1], SCALES)[0].numpy() for _ in range(2))
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 5)])
@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet50", "densenet169"])
def test_tiny_and_one_pixel_wide_images(name, size):
    torch.manual_seed(0)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    network = net.build(name, 3, layout="imagenet", head="softmax").eval()
    saliency = multi_scale_saliency(network, [image], (0.5, 1.0))[0]
    assert saliency.shape == quarter_size(size) and torch.isfinite(saliency).all()


def test_saliency_of_no_activation_is_zero(images):
    network = net.build("resnet50", 3).eval()
    network.classifier.weight.data.zero_()
    assert multi_scale_saliency(network, images[:1], (0.5,))[0].eq(0).all()


def test_relevant_classes_are_the_fewest_that_reach_the_mass():
    p = torch.tensor([0.05, 0.6, 0.05, 0.3])
    assert relevant_classes(p, 0.6 - 1e-6).tolist() == [1]
    assert relevant_classes(p, 0.7).tolist() == [1, 3]
    assert sorted(relevant_classes(p, 0.9999).tolist()) == [0, 1, 2, 3]


def test_maps_of_present_classes_are_the_published_ones(golden):
    """Classes 3 and 14 of the whole inference of SEAM, clipped at 0."""
    state = golden.weights(golden("hfpl_resnet38_seam"))
    facts, state = published({k: torch.from_numpy(np.array(v)) for k, v in state.items()})
    network = SEAMNet(ResNet38(), facts)
    network.load_state_dict(state)
    name = "coffee_101x151"
    cam = present_class_cam(network.eval(), golden.image(name), torch.tensor([3, 14]), [0.5, 1.0, 1.5, 2.0])
    expected = golden("hfpl_intended_variants")[f"norm_cam_clipped.{name}"]
    np.testing.assert_allclose(cam.numpy(), expected, atol=1e-5)


def test_normalised_maps_are_stretched_from_their_lowest_value():
    cam = torch.tensor([[[-3.0, 1.0], [2.0, 5.0]], [[2.0, 2.0], [4.0, 3.0]], [[-1.0, -2.0], [-3.0, -4.0]]])
    expected = torch.tensor([[[0, 0.2], [0.4, 1.0]], [[0, 0], [1.0, 0.5]], [[0, 0], [0, 0]]])
    assert torch.allclose(normalised_maps(cam), expected, atol=2e-5) and normalised_maps(cam).min() == 0
    assert normalised_maps(torch.zeros(0, 2, 2)).shape == (0, 2, 2)


def test_fused_maps_are_normalised_sums_of_resized_maps():
    torch.manual_seed(0)
    maps = [torch.randn(2, 3, 4), torch.randn(2, 6, 8), torch.randn(2, 10, 13)]
    total = sum(torch.nn.functional.interpolate(m[None], (10, 13), mode="bilinear")[0] for m in maps)
    assert torch.allclose(fuse_cams(maps, (10, 13)), normalised_maps(total))


@pytest.mark.parametrize("head", ["sigmoid", "seam"])
def test_maps_of_some_classes_are_those_of_all(head, images):
    torch.manual_seed(0)
    network = net.build("efficientnet_lite0", 4, head=head).eval()
    image, keys = images[0][:64, :80], torch.tensor([1, 3])
    some, every = (present_class_cam(network, image, k, [1.0, 0.5]) for k in (keys, torch.arange(4)))
    assert some.shape == (2, 64, 80) and torch.allclose(some, every[keys], atol=1e-5)
    flipped = present_class_cam(network, np.ascontiguousarray(image[:, ::-1]), keys, [1.0, 0.5])
    assert torch.allclose(flipped.flip(-1), some, atol=2e-2)
    assert present_class_cam(network, image, keys, [1.0], (32, 40)).shape == (2, 32, 40)
