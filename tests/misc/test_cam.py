"""Multi-scale CAMs: the fused form against the plain one, and the symmetries that both must have."""

import numpy as np
import pytest
import torch

import net
from misc.cam import multi_scale_cam, multi_scale_saliency, quarter_size, relevant_classes, saliency_from_cam
from net.weights import load

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
        logits, cam = multi_scale_cam(plain_net, image, SCALES)
        assert cam.min() >= 0 and cam.shape == (plain_net.facts.num_classes, 30, 40)
        want = saliency_from_cam(plain_net.probabilities(logits), cam)
        torch.testing.assert_close(got, want, rtol=0, atol=1e-4)
        assert got.min() >= 0 and 0.99 < got.max() <= 1


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


def test_saliency_of_no_activation_is_zero():
    assert saliency_from_cam(torch.ones(3), torch.zeros(3, 4, 5)).eq(0).all()


def test_relevant_classes_are_the_fewest_that_reach_the_mass():
    p = torch.tensor([0.05, 0.6, 0.05, 0.3])
    assert relevant_classes(p, 0.6 - 1e-6).tolist() == [1]
    assert relevant_classes(p, 0.7).tolist() == [1, 3]
    assert sorted(relevant_classes(p, 0.9999).tolist()) == [0, 1, 2, 3]
