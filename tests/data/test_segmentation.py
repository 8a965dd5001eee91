"""Sets for weakly supervised segmentation: the devkits, and layouts of one's own with and without masks."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.datasets import DATASETS, DatasetSpec
from data.labelled import open_labelled
from data.segmentation import open_segmentation
from misc.errors import InputError
from misc.files.labels import write_mask


@pytest.fixture
def own(tmp_path, photographs) -> Path:
    """ROOT/images, ROOT/masks and ROOT/labels.csv of four photographs."""
    root = tmp_path / "own"
    (root / "images").mkdir(parents=True)
    rows = ["file,label"]
    for i, (name, picture) in enumerate(sorted(vars(photographs).items())):
        picture = picture[:60, :80]
        Image.fromarray(picture).save(root / "images" / f"{name}.jpg")
        label = np.zeros(picture.shape[:2], np.uint8)
        label[10:30, 20:50], label[10:12] = 1 + i % 2, 255
        write_mask(root / "masks" / f"{name}.png", label)
        rows.append(f"images/{name}.jpg,{('thing', 'being')[i % 2]}")
    (root / "labels.csv").write_text("\n".join(rows))
    (root / "class_names.txt").write_text("thing\nbeing\n")
    return root


def test_voc(shared):
    root = shared("data", "VOCdevkit")
    spec = DATASETS["voc12"]
    for split, num in (("train", 43), ("val", 10), ("train_aug", 43)):
        part = open_segmentation(root, spec, split)
        assert len(part.images) == num and part.spec is spec and part.mask_dir == root / "VOC2012" / "SegmentationClass"
    assert open_segmentation(root).spec.class_names == spec.class_names
    with pytest.raises(InputError, match="test.txt"):
        open_segmentation(root, spec, "test")


def test_coco_as_it_comes(shared):
    part = open_segmentation(shared("data", "coco128"), DATASETS["coco14"])
    assert len(part.images) == 128 and part.mask_dir is None and part.masks == {}
    voc = open_segmentation(shared("data", "coco128"), DATASETS["voc12"])
    assert voc.images.class_names == DATASETS["voc12"].class_names


def test_csv_and_masks(own):
    part = open_segmentation(own)
    assert part.spec == DatasetSpec("own", ("thing", "being")) and part.images.class_names == part.spec.class_names
    assert [part.masks[name].is_file() for name in part.images.names] == [True] * 4
    with pytest.raises(InputError, match="no part val; needed is labels_val.csv, or a list val.txt"):
        open_segmentation(own, split="val")
    (own / "val.txt").write_text("cat\ncoffee\n")
    assert open_segmentation(own, split="val").images.names == ("cat", "coffee")
    (own / "labels.csv").rename(own / "labels_train.csv")
    assert len(open_segmentation(own).images) == 4
    shutil.rmtree(own / "masks")
    assert open_segmentation(own).mask_dir is None


def test_folders_and_masks(own):
    for i, path in enumerate(sorted((own / "images").iterdir())):
        folder = own / "images" / ("thing", "being")[i % 2]
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name)
    (own / "labels.csv").unlink()
    part = open_segmentation(own)  # masks is no class
    assert part.images.class_names == ("thing", "being") and part.images.counts.tolist() == [2, 2]
    assert part.masks[part.images.names[0]].is_file()
    (own / "train.txt").write_text("cat\nrocket\n")
    assert open_segmentation(own).images.names == ("cat", "rocket")
    (own / "train").mkdir()
    for folder in ("thing", "being"):
        shutil.copytree(own / "images" / folder, own / "images" / "val" / folder)
    assert len(open_segmentation(own, split="val").images) == 4


def test_masks_that_do_not_fit(own):
    mask = own / "masks" / "cat.png"
    wrong = {
        r"cat.png is \(10, 20\), its image \(80, 60\)": np.zeros((20, 10), np.uint8),
        "cat.png holds 3, which is no label of own": np.full((60, 80), 3, np.uint8),
        "cat.png cannot be read": np.zeros((60, 80, 3), np.uint8),
    }
    for message, label in wrong.items():
        Image.fromarray(label).save(mask)
        with pytest.raises(InputError, match=message):
            open_segmentation(own, flag="--data_dir")
    mask.unlink()
    assert len(open_segmentation(own).images) == 4  # who scores will ask for it


def test_roots_that_are_none(tmp_path, own):
    with pytest.raises(InputError, match="--data_dir .*none: no such folder"):
        open_segmentation(tmp_path / "none")
    with pytest.raises(InputError, match="'being' is none of the 1 classes"):
        open_segmentation(own, DatasetSpec("one", ("thing",)))


def test_names_are_stems(own):
    assert open_labelled(own).names == ("astronaut", "cat", "coffee", "rocket")
