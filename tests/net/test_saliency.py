"""The saliency network on every backbone, and the one that comes along."""

import pytest
import torch

import net
from misc.errors import InputError
from net import SalNet, student
from net.fast.for_training import for_training
from net.weights import read_checkpoint, save_checkpoint, save_half
from tests.net.test_nets import _randomised


def network_of(name, layout="imagenet"):
    torch.manual_seed(0)
    return _randomised(net.build(name, 0, layout=layout, head="saliency"))


def picture(photographs, height, width):
    return torch.from_numpy(photographs.cat[:height, :width].copy()).permute(2, 0, 1)[None]


@pytest.mark.parametrize("layout", ["cam", "imagenet"])
@pytest.mark.parametrize("name", net.BACKBONES)
def test_a_map_at_stride_4_and_the_same_by_its_faster_twins(name, layout, photographs):
    network, image = network_of(name, layout), picture(photographs, 72, 96)
    with torch.inference_mode():
        expected = network(image)
        assert expected.shape == (1, 1, 18, 24)
        close = {"rtol": 1e-3, "atol": 1e-4 * expected.abs().max().item()}
        torch.testing.assert_close(net.for_inference(network)(image), expected, **close)
        torch.testing.assert_close(for_training(network)(image), expected, **close)


@pytest.mark.parametrize("layout", ["cam", "imagenet"])
@pytest.mark.parametrize("name", net.BACKBONES)
def test_features_at_stride_4_are_on_the_way_to_the_taps(name, layout):
    backbone = network_of(name, layout).backbone
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        quarter = backbone.quarter(x)
        assert quarter.shape == (1, backbone.quarter_dim, 16, 24)
        for one, other in zip(backbone.taps(x), backbone.deeper(quarter), strict=True):
            assert torch.equal(one, other)


def test_what_is_trained(photographs):
    network = network_of("efficientnet_lite0").train()
    network(picture(photographs, 64, 64)).sigmoid().mean().backward()
    trained = {name for name, p in network.named_parameters() if p.grad is not None}
    assert not any(name.startswith(("backbone.stem", "backbone.blocks.0.")) for name in trained)
    assert all(f"backbone.blocks.{i}.project.0.weight" in trained for i in range(1, 16))
    assert {name for name, _ in network.named_parameters() if not name.startswith("backbone.")} <= trained


@pytest.mark.parametrize("half", [False, True])
def test_a_file_of_it_says_what_it_is(half, photographs, tmp_path):
    network, file = network_of("efficientnet_lite0"), tmp_path / ("sal.safetensors" if half else "sal.pth")
    (save_half if half else save_checkpoint)(file, network)
    read, image = read_checkpoint(file), picture(photographs, 64, 64)
    assert isinstance(read, SalNet) and read.facts == network.facts and next(read.parameters()).dtype == torch.float32
    with torch.inference_mode():
        difference = (read(image).sigmoid() - network(image).sigmoid()).abs().max()
    assert difference <= (2e-3 if half else 0)


def test_a_student_that_is_missing_or_another(tmp_path, monkeypatch):
    monkeypatch.setattr(student, "STUDENT", tmp_path / "student.safetensors")
    with pytest.raises(InputError, match=r"student.safetensors is missing: .* --sal_weights FILE or none"):
        student.student_file()
    (tmp_path / "student.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="its sha256 differs"):
        student.student_file()


def test_the_student_that_comes_along_finds_the_coffee(photographs):
    """Its file is the one of this version, and small; on a photograph that it never saw the cup stands out."""
    assert student.student_file().stat().st_size < 12e6 and student.STUDENT.with_suffix(".md").is_file()
    network = read_checkpoint(student.student_file())
    image = torch.from_numpy(photographs.coffee.copy()).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        prob = network(torch.nn.functional.interpolate(image, (224, 224), mode="bilinear", antialias=True))[
            0, 0
        ].sigmoid()
    assert network.facts.network == "efficientnet_lite0" and prob.shape == (56, 56)
    assert prob[16:40, 18:36].mean() > 0.9 and torch.cat([prob[:4].flatten(), prob[:, -6:].flatten()]).mean() < 0.1
