"""The CAM networks against the published ones, and against what a CAM network is."""

import numpy as np
import pytest
import torch
import torchvision
from torch.nn.functional import relu

import net
from net import efficientnet_lite
from net.weights import read_checkpoint
from pgt.cam import mirrored, pyramid, unmirror

SIZES = [(64, 64), (65, 97), (33, 32)]
SCALES = (1.0, 0.5, 1.5, 2.0)


@pytest.fixture(scope="module")
def published(golden, tmp_path_factory):
    """name of golden file -> the network, read from a checkpoint file with the original key names."""
    made = {}

    def load(name):
        if name not in made:
            path = tmp_path_factory.mktemp("ckpt") / f"{name}.pth"
            torch.save({k: torch.from_numpy(np.array(v)) for k, v in golden.weights(golden(name)).items()}, path)
            made[name] = read_checkpoint(path)
        return made[name]

    return load


@pytest.mark.parametrize("name", ["pgt_densenet_cam", "pgt_resnet50_cam"])
@pytest.mark.parametrize("image", ["chelsea_141x187", "coffee_101x151"])
@pytest.mark.parametrize("scale", SCALES)
def test_generatepgt_golden(name, image, scale, golden, published):
    expected, network = golden(name), published(name)
    _check(network, golden.image(image), scale, expected, f"{image}.s{scale}", "logits", "cam_every10", every=10)


@pytest.mark.parametrize("image", ["chelsea_281x375", "coffee_101x151"])
@pytest.mark.parametrize("scale", SCALES)
def test_irn_golden(image, scale, golden, published):
    expected, network = golden("irn_resnet50_cam"), published("irn_resnet50_cam")
    _check(network, golden.image(image), scale, expected, f"{image}.s{scale}", "Net_logits", "CAM", every=1)


def _check(network, image, scale, expected, key, logits_key, cam_key, every):
    with torch.inference_mode():
        logits, cam = network.cam(mirrored(pyramid(image, [scale])))
        cam = unmirror(relu(cam))[0, ::every]
    for got, want in ((logits, expected[f"{key}.{logits_key}"]), (cam, expected[f"{key}.{cam_key}"])):
        assert got.shape == want.shape
        np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize("layout", ["cam", "imagenet"])
@pytest.mark.parametrize("name", net.BACKBONES)
def test_logits_are_the_spatial_mean_of_cam_and_folding_changes_nothing(name, layout, photographs):
    torch.manual_seed(0)
    network = _randomised(net.build(name, 7, layout=layout, head="softmax" if layout == "imagenet" else "sigmoid"))
    folded = net.for_inference(network)
    before_convolutions = name.startswith(("densenet", "resnet38"))  # those norms cannot be folded
    assert before_convolutions or not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    for height, width in SIZES:
        x = torch.from_numpy(photographs.cat[:height, :width].copy()).permute(2, 0, 1)[None]
        with torch.inference_mode():
            logits, cam = network.cam(x)
            torch.testing.assert_close(logits, cam.mean((2, 3)), rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(network.logits(network.features(x)), logits, rtol=1e-4, atol=1e-5)
            keys = torch.tensor([5, 2])
            torch.testing.assert_close(network.maps(network.features(x), keys), cam[:, keys], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(folded.cam(x)[1], cam, rtol=1e-3, atol=1e-4 * cam.abs().max().item())


def _randomised(network):
    """Batch norms that are no identity, so that folding them wrongly shows."""
    for m in network.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.8, 1.2)
            torch.nn.init.uniform_(m.weight, 0.8, 1.2)
            torch.nn.init.normal_(m.bias, 0, 0.1)
    return network.eval()


def test_imagenet_layouts_hold_the_features_of_the_classifier():
    """A denser grid, but on its coarse points the very features that torchvision's classifier pools."""
    torch.manual_seed(0)
    x = torch.rand(1, 3, 128, 192)
    for name, last in (("resnet50", "fc"), ("densenet169", "classifier")):
        stock = getattr(torchvision.models, name)(weights=None)
        dense = net.build(name, 5, layout="imagenet", head="softmax").backbone
        _randomised(stock)
        dense.load_state_dict({k: v for k, v in stock.state_dict().items() if not k.startswith(last)})
        children = [c for n, c in stock.named_children() if n not in (last, "avgpool")]
        relu_after = [torch.nn.ReLU()] if name == "densenet169" else []
        with torch.inference_mode():
            want = torch.nn.Sequential(*children, *relu_after)(x)
            got = dense.eval()(x)
        assert got.shape[2:] == (8, 12)
        inner = (slice(None), slice(None), slice(0, None, 2), slice(0, None, 2))
        torch.testing.assert_close(got[inner], want, rtol=1e-3, atol=1e-4 * want.abs().max().item())


@pytest.mark.parametrize("name", efficientnet_lite.MULTIPLIERS)
def test_efficientnet_lite_stride_16_is_a_denser_stride_32(name):
    torch.manual_seed(0)
    coarse = _randomised(efficientnet_lite.EfficientNetLite(name, 32))
    dense = efficientnet_lite.EfficientNetLite(name, 16).eval()
    dense.load_state_dict(coarse.state_dict())
    with torch.inference_mode():
        x = torch.randn(1, 3, 128, 64)
        want, got = coarse(x), dense(x)
    assert got.shape[2:] == (8, 4)
    torch.testing.assert_close(got[:, :, 1::2, 1::2], want, rtol=1e-3, atol=1e-4 * want.abs().max().item())


def test_unknown_network():
    with pytest.raises(ValueError, match="unknown network 'vgg'"):
        net.build("vgg", 3)
