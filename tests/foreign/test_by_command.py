"""Names, orders of classes and files of others, through the commands that meet them.

make_crf without maps opens a set, leaves its class_names.txt, and lists every image: which ones, and of what order, is
told without a training.
"""

import numpy as np
import pytest
import torch
from torchvision.models import resnet50

from tests.foreign.commands import (
    MAPS_ALONE,
    disc,
    failed,
    names,
    photos,
    picture,
    sample,
    save,
    score_classes,
    voc,
    written,
)


def opened(root, result, *argv):
    """-> names of the classes, and of the images of train."""
    argv = ("--data_dir", root, "--result_dir", result, *argv)
    assert voc(*argv, passes=("make_crf_pass",)) == 1
    images = {name.rsplit(".", 1)[0] for step, name in failed(result) if step == "make_crf"}
    return (result / "class_names.txt").read_text(encoding="utf-8").split("\n")[:-1], images


def test_lists_name_the_very_images(tmp_path):
    kept = ["IMG_0.crop", "my photo 1", "x_jpg.rf.0a1b2c"]
    for i, name in enumerate(["IMG_0", *kept]):
        save(tmp_path / "set" / "images" / ("bird", "dog")[i % 2] / f"{name}.jpg", picture(i))
        save(tmp_path / "set" / "masks" / f"{name}.png", disc() * np.uint8(1 + i % 2))
    (tmp_path / "set" / "train.txt").write_text("IMG_0.crop\nmy photo 1.jpg\nx_jpg.rf.0a1b2c\n")
    assert opened(tmp_path / "set", tmp_path / "r", "--train_split", "train") == (["bird", "dog"], set(kept))


def test_folders_that_are_numbers_are_in_their_order(tmp_path):
    for k in range(1, 12):
        save(tmp_path / "set" / str(k) / f"i{k}.png", picture(k))
    assert opened(tmp_path / "set", tmp_path / "r")[0] == [str(k) for k in range(1, 12)]


def test_a_folder_of_background_is_no_class(tmp_path):
    for k, name in enumerate(("background", "cat", "dog")):
        save(tmp_path / "set" / name / f"i{k}.png", picture(k))
    assert opened(tmp_path / "set", tmp_path / "r") == (["cat", "dog"], {"i0", "i1", "i2"})


def test_a_tree_like_vocs_has_its_own_classes(tmp_path):
    for image, name in (("garden1", "cat"), ("garden2", "dog")):
        save(tmp_path / "own" / "JPEGImages" / f"{image}.jpg", picture())
        (tmp_path / "own" / "Annotations").mkdir(exist_ok=True)
        text = f"<annotation><object><name>{name}</name></object></annotation>"
        (tmp_path / "own" / "Annotations" / f"{image}.xml").write_text(text)
    (tmp_path / "own" / "ImageSets" / "Segmentation").mkdir(parents=True)
    for split in ("train", "val"):
        (tmp_path / "own" / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("garden1\ngarden2\n")
    assert opened(tmp_path / "own", tmp_path / "r") == (["cat", "dog"], {"garden1", "garden2"})


def test_parts_share_the_order_of_train(tmp_path):
    for split, names_of in (("train", "abc"), ("val", "bc")):
        for name in names_of:
            save(tmp_path / "set" / f"{split}{name}.jpg", picture())
            save(tmp_path / "set" / "masks" / f"{split}{name}.png", disc() * np.uint8("abc".index(name) + 1))
        rows = "".join(f"{split}{name}.jpg,{name}\n" for name in names_of)
        (tmp_path / "set" / f"labels_{split}.csv").write_text("file,label\n" + rows)
    assert opened(tmp_path / "set", tmp_path / "r")[0] == ["a", "b", "c"]
    (tmp_path / "val").mkdir()
    assert opened(tmp_path / "set", tmp_path / "val", "--train_split", "val") == (["a", "b", "c"], {"valb", "valc"})


@pytest.mark.parametrize("cell", ["cat|dog", "cat;dog", "\"['cat', 'dog']\""])
def test_labels_in_one_cell_are_two(cell, tmp_path):
    photos(tmp_path / "set", "a.png", "b.png")
    (tmp_path / "set" / "labels.csv").write_text(f"file,label\na.png,{cell}\nb.png,dog\n")
    assert opened(tmp_path / "set", tmp_path / "r") == (["cat", "dog"], {"a", "b"})


def test_masks_by_other_names_are_found(tmp_path, capsys):
    for i, mask in enumerate(("x0_mask.png", "x1.PNG", "x2.bmp")):
        save(tmp_path / "set" / "images" / ("bird", "dog")[i % 2] / f"x{i}.jpg", picture(i))
        save(tmp_path / "set" / "masks" / mask, disc() * np.uint8(1 + i % 2))
    opened(tmp_path / "set", tmp_path / "r")
    assert "masks of 3" in capsys.readouterr().out


def test_cams_of_clip_es_are_scored(tmp_path):
    (tmp_path / "p").mkdir()
    cam = disc()[None].astype(np.float32)
    np.save(tmp_path / "p" / "a.npy", {"keys": torch.tensor([3]), "attn_highres": cam})
    save(tmp_path / "m" / "a.png", disc() * np.uint8(4))
    argv = (
        "--pred_dir",
        tmp_path / "p",
        "--mask_dir",
        tmp_path / "m",
        "--dataset",
        "voc12",
        "--out",
        tmp_path / "o",
        "--bg_score",
        "0.5",
    )
    assert score_classes(*argv) == 0
    assert (row := written(tmp_path / "o"))["miou"] > 0.95, row


@pytest.mark.parametrize("prefix", ["model.", "_orig_mod.", "module._orig_mod."])
def test_wrapped_checkpoints_make_maps(prefix, tmp_path):
    torch.manual_seed(0)
    state = {f"{prefix}{name}": value for name, value in resnet50(num_classes=3).state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "w.pth")
    photos(tmp_path / "i", "a.png")
    argv = ("--cam_network", "resnet50", "--cam_weights_dir", tmp_path / "w.pth", *MAPS_ALONE)
    assert sample(tmp_path / "i", "--result_dir", tmp_path / "r", *argv) == 0
    assert names(tmp_path / "r" / "cam") == ["a"]


def test_a_photograph_of_200_megapixels_gets_a_map(tmp_path):
    (tmp_path / "i").mkdir()
    save(tmp_path / "i" / "large.jpg", np.tile(picture(size=(1020, 1020)), (12, 16, 1)), quality=80)
    assert sample(tmp_path / "i", "--result_dir", tmp_path / "r", "--max_side", "256", *MAPS_ALONE) == 0
    assert names(tmp_path / "r" / "cam") == ["large"]
