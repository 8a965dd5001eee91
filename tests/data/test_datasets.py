import json

import numpy as np
import pytest
from PIL import Image

from data.datasets import DATASETS, get_dataset, read_names
from misc.errors import InputError


def test_voc_is_that_of_its_files(shared):
    root, spec = shared("data", "VOCdevkit", "VOC2012"), DATASETS["voc12"]
    for split in ("train", "val"):
        for name in read_names(root / spec.lists[split]):
            with Image.open(root / spec.mask_dir / f"{name}.png") as mask:
                palette = np.array(mask.getpalette()).reshape(-1, 3)
                assert set(np.unique(np.asarray(mask))) <= {*range(spec.num_classes), spec.ignore}
            np.testing.assert_array_equal(palette, spec.palette)
    annotations = "".join(path.read_text() for path in (root / "Annotations").iterdir())
    assert all(f"<name>{name}</name>" in annotations for name in spec.class_names)
    assert list(spec.class_names) == sorted(spec.class_names)


def test_coco_is_that_of_its_annotations(shared):
    spec = DATASETS["coco14"]
    categories = json.loads(shared("data", "coco128", "instances_train2017.json").read_text())["categories"]
    found = [(spec.category_id(i), name) for i, name in enumerate(spec.class_names, 1)]
    assert found == [(c["id"], c["name"]) for c in sorted(categories, key=lambda c: c["id"])]


def test_labels_and_colours():
    spec = DATASETS["voc12"]
    assert spec.names[0] == "background" and spec.names[15] == "person" and spec.category_id(15) == 15
    assert spec.palette[[0, 1, 15, 255]].tolist() == [[0, 0, 0], [128, 0, 0], [192, 128, 128], [224, 224, 192]]
    assert len(np.unique(spec.palette, axis=0)) == 256
    for spec in DATASETS.values():
        assert len(set(spec.names)) == spec.num_classes <= spec.ignore


def test_class_names_of_a_file(tmp_path):
    texts = {
        "a.txt": "background\ncat \ntraffic light\n\n",
        "b.txt": "cat\ntraffic light",
        "c.json": '["cat", "traffic light"]',
        "d.json": '{"class_names": ["cat", "traffic light"]}',
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        spec = get_dataset(str(tmp_path / name))
        assert spec.class_names == ("cat", "traffic light") and spec.ignore == 255 and spec.num_classes == 3
    (tmp_path / "e.json").write_text('{"class_names": ["cat"], "ignore": 2}')
    assert get_dataset(str(tmp_path / "e.json")).ignore == 2
    assert get_dataset("coco14") is DATASETS["coco14"]


def test_files_of_names_that_are_none(tmp_path):
    texts = {
        "{}": "give a list",
        '{"class_names": "cat"}': "give a list",
        "[1, 2]": "give a list",
        "[": "neither",
        "[]": "no class name",
        '["background"]': "no class name",
        '["a", "a"]': "twice",
        '{"class_names": ["a", "b"], "ignore": 2}': "ignore must be",
        '{"class_names": ["a"], "ignore": "255"}': "ignore must be",
    }
    path = tmp_path / "names.json"
    for text, message in texts.items():
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            get_dataset(str(path))
    with pytest.raises(InputError, match="voc12, coco14"):
        get_dataset("voc13")


def test_read_names(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("2007_000032\n\n/JPEGImages/b.jpg /SegmentationClass/b.png\nc 1\n")
    assert read_names(path) == ["2007_000032", "b", "c"]
    for text in ("\n", "a\na.png\n"):
        path.write_text(text)
        with pytest.raises(InputError, match="no name in it, or one of them twice"):
            read_names(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_names(tmp_path / "none.txt")
