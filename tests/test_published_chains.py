"""From published inputs to published files by commands alone: maps, labels and CAMs as published code makes them.

Where the golden numbers hold a whole chain they are the reference; where they hold its parts, functions that other
tests hold to these parts are put together here as the published programs do, which keep the map in float32 between
network and PAMR, and in 8 bits between PAMR and CRF.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

import run_sample
import run_slic
import run_voc
from benchmarks.make_cam import plain_saliency
from data.voc12 import SPEC
from misc.files.predictions import read_prediction
from misc.run.passes import run_passes
from net.weights import load
from pgt.crf import CRF_RECIPES, mean_field, unary_from_saliency
from pgt.pamr import refine_saliency

SCALES = (1.0, 0.5, 1.5, 2.0)
QUIET = ["--device", "cpu", "--quiet"]


def run(script, on, *argv):
    """The passes of these names alone."""
    off = [f"--{name}=False" for name, one in script.PASSES.items() if name not in on and one.on is not None]
    passes = {name: script.PASSES[name] for name in on}
    assert run_passes(passes, lambda: script.parse([*QUIET, *off, *map(str, argv)])) == 0


def read(path):
    return np.asarray(Image.open(path)).astype(np.int64)


def assert_alike(got, want):
    """Within one grey level on 99.9 % of the pixels."""
    assert got.shape == want.shape
    assert (np.abs(got - want.astype(np.int64)) <= 1).mean() >= 0.999


@pytest.fixture
def folder(golden, tmp_path):
    """folder(names) -> a folder with these golden images."""

    def make(names):
        (tmp_path / "images").mkdir()
        for name in names:
            Image.fromarray(golden.image(name)).save(tmp_path / "images" / f"{name}.png")
        return tmp_path / "images"

    return make


def saved(golden, name, path):
    """A published checkpoint with the golden weights."""
    arrays = golden.weights(golden(name))
    torch.save({key: torch.from_numpy(np.asarray(value)) for key, value in arrays.items()}, path)
    return path


def published_labels(image, saliency):
    """saliency (h,w) as PAMR gets it -> the refined map's levels, the label of generatePGT, and the one without a
    threshold."""
    refined = np.rint(refine_saliency(image, np.asarray(saliency, np.float32)) * 255)
    soft = mean_field(image, unary_from_saliency(refined / 255), CRF_RECIPES["wsod_pixel"])[1]
    return np.where(refined >= 255 * 0.4, 255, 0), (soft * 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("network", "names"),
    [
        ("pgt_densenet_cam", ["coffee_101x151"]),
        ("pgt_resnet50_cam", ["coffee_101x151", "chelsea_141x187"]),
        ("efficientnet_lite0", ["coffee_203x301", "rocket_213x321"]),
    ],
)
def test_maps_and_labels(network, names, golden, folder, tmp_path):
    images, packaged = folder(names), network.startswith("efficientnet")
    file = None if packaged else saved(golden, network, tmp_path / "published.pth")
    weights = ["--cam_network", network] if packaged else ["--cam_weights_dir", file]
    args = [images, "--result_dir", tmp_path / "r", "--label_recipe", "published", "--cam_class_power", "1", *weights]
    run(run_sample, ("make_cam_pass", "make_label_pass", "make_slic_pass"), *args)
    soft = ["--label_crf_binary", "none", "--cam_pamr_out_dir", tmp_path / "soft"]
    run(run_sample, ("make_label_pass",), *args, *soft)
    net = load(network if packaged else None, file and str(file), tmp_path)[0]
    for name in names:
        image, file = golden.image(name), f"{name}.png"
        saliency = plain_saliency(net, image, SCALES).numpy()
        assert_alike(np.rint(read(tmp_path / "r" / "cam" / file) / 257), np.rint(saliency * 255))
        binary, wanted = published_labels(image, saliency)
        assert_alike(read(tmp_path / "r" / "cam_pamr" / file), binary)
        assert_alike(read(tmp_path / "soft" / file), wanted)
    of_8_bits = tmp_path / "published"  # the map that generatePGT writes, and its run_slic reads
    of_8_bits.mkdir()
    for name in names:
        levels = np.rint(read(tmp_path / "r" / "cam" / f"{name}.png") / 257).astype(np.uint8)
        Image.fromarray(levels).save(of_8_bits / f"{name}.png")
    again = ["--img_root", images, "--result_dir", tmp_path / "slic", "--prob_root"]
    for number, maps in enumerate((of_8_bits, tmp_path / "r" / "cam")):
        run(run_slic, ("make_slic_pass",), *again, maps, "--output_root", tmp_path / str(number))
    for name in names:
        np.testing.assert_array_equal(read(tmp_path / "0" / f"{name}.png"), read(tmp_path / "1" / f"{name}.png"))


def test_labels_of_published_maps(golden, folder, tmp_path):
    """Quarter-size maps of 8 bits, by anyone: PAMR gets them as they are."""
    names, z = ["coffee_203x301", "rocket_213x321"], golden("pgt_run_slic")
    images, maps = folder(names), tmp_path / "maps"
    maps.mkdir()
    for name in names:
        Image.fromarray(z[f"{name}.cam_in"]).save(maps / f"{name}.png")
    args = [images, "--result_dir", tmp_path / "r", "--label_recipe", "published", "--cam_out_dir", maps]
    run(run_sample, ("make_label_pass",), *args)
    soft = ["--label_crf_binary", "none", "--cam_pamr_out_dir", tmp_path / "soft"]
    run(run_sample, ("make_label_pass",), *args, *soft)
    for name in names:
        binary, wanted = published_labels(golden.image(name), z[f"{name}.cam_in"] / np.float32(255))
        assert_alike(read(tmp_path / "r" / "cam_pamr" / f"{name}.png"), binary)
        assert_alike(read(tmp_path / "soft" / f"{name}.png"), wanted)


def test_the_published_crf(golden, folder, tmp_path):
    names, z = ["coffee_203x301", "rocket_213x321"], golden("pgt_crf")
    images, maps = folder(names), tmp_path / "maps"
    maps.mkdir()
    for name in names:
        Image.fromarray(z[f"{name}.sal_in"]).save(maps / f"{name}.png")
    for key, flag in (("b0.4", "0.4"), ("b0.3", "0.3"), ("none", "none")):
        args = [images, "--result_dir", tmp_path / key, "--label_recipe", "published", "--cam_out_dir", maps]
        args += ["--label_pamr_num_iter", "0", "--label_crf_binary", flag]
        run(run_sample, ("make_label_pass",), *args)
        for name in names:
            assert_alike(read(tmp_path / key / "cam_pamr" / f"{name}.png"), z[f"{name}.out_{key}"])


def test_superpixel_labels(golden, folder, tmp_path):
    names, z = ["coffee_203x301", "rocket_213x321", "chelsea_281x375", "astronaut_255x255"], golden("pgt_run_slic")
    images, maps = folder(names), tmp_path / "maps"
    maps.mkdir()
    for name in names:
        Image.fromarray(z[f"{name}.cam_in"]).save(maps / f"{name}.png")
    args = ["--img_root", images, "--prob_root", maps, "--result_dir", tmp_path / "r", "--slic_recipe", "published"]
    run(run_slic, ("make_slic_pass",), *args)
    for name in names:
        assert_alike(read(tmp_path / "r" / "cam_slic" / f"{name}.png"), z[f"{name}.out_png"])


def test_quarter_size_maps_are_scored_and_shown(golden, folder, tmp_path, capsys):
    name = "coffee_101x151"
    images = folder([name])
    (tmp_path / "masks").mkdir()
    Image.fromarray((golden.image(name).mean(2) > 100) * np.uint8(255)).save(tmp_path / "masks" / f"{name}.png")
    args = [images, "--result_dir", tmp_path / "r", "--mask_dir", tmp_path / "masks", "--cam_network"]
    args += ["efficientnet_lite0", "--cam_scales", "1", "--cam_quarter", "--export", "masks"]
    passes = ("make_cam_pass", "make_label_pass", "eval_pass", "overview_pass", "report_pass", "export")
    run(run_sample, passes, *args)
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["cam", "1"] in [line[:2] for line in table] and (tmp_path / "r" / "report.html").is_file()
    assert Image.open(tmp_path / "r" / "overview.png").width > 3 * 151  # image, map, label, mask


# ---- IRN


KEYS = {"coffee_101x151": (3, 14), "chelsea_281x375": (7,)}


@pytest.fixture
def voc(golden, tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    lines = ["file,label"]
    for name, keys in KEYS.items():
        Image.fromarray(golden.image(name)).save(root / f"{name}.png")
        lines.append(f"{name}.png,{';'.join(SPEC.class_names[k] for k in keys)}")
    (root / "labels.csv").write_text("\n".join(lines))
    (root / "class_names.txt").write_text("\n".join(SPEC.class_names))
    return root


def irn_high_res(z, name, keys, size):
    """IRN's make_cam, of the maps that its network gives."""
    up = [-(-side // 16) * 16 for side in size]
    maps = [torch.from_numpy(z[f"{name}.s{scale}.CAM"])[None, list(keys)] for scale in SCALES]
    total = sum(interpolate(one, up, mode="bilinear", align_corners=False)[0] for one in maps)
    total = total[:, : size[0], : size[1]]
    return (total / (total.amax((1, 2), keepdim=True) + 1e-5)).numpy()


def test_cams_of_irn(golden, voc, tmp_path, capsys):
    weights = saved(golden, "irn_resnet50_cam", tmp_path / "res50_cam.pth")
    args = ["--data_dir", voc, "--cam_weights", weights, "--cam_bits", "16", "--eval_splits", "train"]
    run(run_voc, ("make_cam_pass",), *args, "--result_dir", tmp_path / "irn")
    seam = ("--cam_inference", "seam", "--cam_scales", "0.5")
    assert "IRN's inference" in capsys.readouterr().out
    run(run_voc, ("make_cam_pass",), *args, "--result_dir", tmp_path / "seam", *seam)
    for name, keys in KEYS.items():
        cams = read_prediction(tmp_path / "irn" / "cam" / f"{name}.npz")
        assert cams.labels.tolist() == [key + 1 for key in keys]
        wanted = irn_high_res(golden("irn_resnet50_cam"), name, keys, golden.image(name).shape[:2])
        np.testing.assert_allclose(cams.scores, wanted, rtol=0, atol=1e-4)
        seam = read_prediction(tmp_path / "seam" / "cam" / f"{name}.npz").scores
        assert np.abs(seam - wanted).max() > 0.01
