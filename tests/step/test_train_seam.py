"""How a short training of SEAM starts."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import net
import run_voc
from data.toy import CLASS_NAMES, write_toy
from misc.errors import InputError
from misc.files.images import read_image
from misc.run.passes import run_passes
from misc.train.recolor import recolored
from net import NetFacts
from net.weights import load, save_checkpoint
from step.classes import imagenet_rows
from step.sets import open_train
from step.train_seam import SeamTask, begin, build, loss_weights


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("sets") / "toy", num_train=24, num_val=1)


def start(root, *flags):
    """-> the network before its first step, and its task."""
    argv = ["--preset", "small", "--data_dir", str(root), "--seam_crop_size", "96", "--seam_long_side", "160", "192"]
    argv += ["--seam_init", "prototypes"]
    args = run_voc.parse([*argv, "--device", "cpu", "--quiet", *flags])
    recipe = args.seam
    torch.manual_seed(0)
    data = open_train(args).images
    losses = loss_weights(args.method, args)
    head = "seam" if losses else "sigmoid"
    facts = NetFacts(recipe.network, len(data.class_names), head=head, class_names=data.class_names)
    task = begin(SeamTask(network := build(facts, None, recipe, False), data, recipe, losses), seed=0, weights=None)
    return network.eval(), task


@pytest.mark.parametrize("method", ["plain", "hfpl"])
def test_a_network_of_prototypes_knows_its_images(root, method):
    network, task = start(root, "--method", method)
    logits = []
    for file in task.data.files:
        img = torch.from_numpy(read_image(file).copy()).permute(2, 0, 1)[None]
        with torch.inference_mode():
            logits.append(network.cam(torch.nn.functional.interpolate(img.float(), scale_factor=1.5))[0][0].numpy())
    logits, labels = np.stack(logits), task.data.labels > 0
    assert logits[labels].mean() > logits[~labels].mean() + 1
    assert {"plain": "classifier", "hfpl": "fc8"}[method] in dict(network.named_children())


def test_a_network_of_imagenets_classes_knows_them_untrained(photographs):
    """Classes that ImageNet knows, and one that it does not, which images tell."""
    rows = imagenet_rows("efficientnet_lite0", ("cat", "gizmo", "golf ball"), None)
    assert rows.shape == (3, 1280) and rows[0].any() and not rows[1].any()
    network, _ = load("efficientnet_lite0", None, Path("unused"), progress=False)
    img = torch.from_numpy(photographs.cat.copy()).permute(2, 0, 1)[None]
    with torch.inference_mode():
        logits = network.features(img).mean((2, 3)) @ rows.T
    assert logits[0].argmax() == 0 and logits[0, 0] > 1


def test_rows_of_imagenet_take_the_place_of_prototypes_where_they_are_known(root, capsys, monkeypatch):
    monkeypatch.setattr("step.classes.synsets_of", lambda name: (3, 4) if name == CLASS_NAMES[1] else ())
    prototypes, _ = start(root, "--method", "plain")
    mixed, _ = start(root, "--method", "plain", "--seam_init", "imagenet")
    same = (prototypes.classifier.weight == mixed.classifier.weight).flatten(1).all(1)
    assert same.tolist() == [name != CLASS_NAMES[1] for name in CLASS_NAMES]
    rest = ", ".join(name for name in CLASS_NAMES if name != CLASS_NAMES[1])
    assert "known from ImageNet: 1 of 6; from images alone: " + rest in capsys.readouterr().out


def test_a_start_that_holds_no_classifier_of_imagenet(tmp_path):
    save_checkpoint(tmp_path / "a.pth", net.build("efficientnet_lite0", 3))
    with pytest.raises(InputError, match="a.pth holds no classifier of ImageNet's 1000"):
        imagenet_rows("efficientnet_lite0", ("cat",), tmp_path / "a.pth")


def test_the_same_start_twice_and_rates_of_the_groups(root):
    (one, task), (two, _) = start(root, "--method", "seam"), start(root, "--method", "seam")
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    factor = {id(p): group.factor for group in task.groups for p in group.parameters}
    assert factor[id(one.fc8.weight)] == 10 and {factor[id(p)] for p in one.pcm_weights()} == {1}
    assert len(factor) == sum(len(group.parameters) for group in task.groups)


def test_an_image_that_the_check_did_not_see_is_named_before_the_first_step(root, tmp_path, capsys, monkeypatch):
    shutil.copytree(root, tmp_path / "set")
    image = sorted((tmp_path / "set" / "JPEGImages").iterdir())[0]

    def breaking(data):  # it runs after the check of a sample, which would see it in a set this small
        image.write_bytes(image.read_bytes()[:600])
        return ""

    monkeypatch.setattr("step.train_seam.describe", breaking)
    argv = ["--preset", "small", "--data_dir", str(tmp_path / "set"), "--result_dir", str(tmp_path / "r"), "--quiet"]
    status = run_passes(
        {"train_seam_pass": run_voc.PASSES["train_seam_pass"]}, lambda: run_voc.parse([*argv, "--device", "cpu"])
    )
    err = capsys.readouterr().err
    assert status == 2 and image.name in err and "Traceback" not in err


def test_colors_changed_on_the_device_are_those_of_the_cpu(root):
    """The same sample, to a grey level: drawn alike, around the whole image's mean gray, with the fill as it is."""
    _, task = start(root, "--method", "plain", "--seam_jitter", "0.5", "--seam_hue", "0.1")
    samples = {}
    for task.spares in (False, True):
        drawn = [task.sample(i, np.random.default_rng(i)) for i in range(8)]
        samples[task.spares] = [torch.from_numpy(np.stack(arrays)) for arrays in zip(*drawn, strict=True)]
    (image, label), (plain, same_label, *colors) = samples.values()
    image, plain = image.permute(0, 3, 1, 2), plain.permute(0, 3, 1, 2)
    assert image.shape == (8, 3, 96, 96) and torch.equal(label, same_label)
    difference = (recolored(plain, *colors).float() - image.float()).abs()
    assert difference.max() <= 1 and (image.float() - plain.float()).abs().mean() > 5
    loss, same = task.loss(image, label)["loss"], task.loss(plain, label, *colors)["loss"]
    torch.testing.assert_close(loss, same, rtol=1e-2, atol=0)
    assert not torch.allclose(loss, task.loss(plain, label)["loss"], rtol=1e-2, atol=0)
