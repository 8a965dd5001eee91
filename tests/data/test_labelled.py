"""Labelled images: every layout gives the table that its files say, and nothing damaged gets past the door."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import labelled, voc12
from data.labelled import LabelledImages, describe, merge, open_labelled
from misc.errors import InputError


@pytest.fixture
def picture(photographs):
    """picture(path): writes a photograph there, small and different for each path."""

    def write(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        name = sorted(vars(photographs))[len(path.name) % 4]
        Image.fromarray(getattr(photographs, name)).resize((48, 32)).save(path)
        return path

    return write


@pytest.fixture
def folders(tmp_path, picture) -> Path:
    root = tmp_path / "photos"
    for below in ("cat/a.jpg", "cat/deep/er/b.png", "dog/a.jpg", "dog/c.JPEG", "coffee cup/d.webp"):
        picture(root / below)
    (root / "cat" / "notes.txt").write_text("no picture")
    (root / "cat" / ".hidden.jpg").write_text("no picture")
    return root


@pytest.fixture
def det(tmp_path, picture) -> Path:
    root = tmp_path / "ILSVRC"
    for below in ("ILSVRC2013_train/n01/n01_1", "ILSVRC2013_train/n01/n01_2", "ILSVRC2014_train_0006/x"):
        picture(root / "ILSVRC2014_DET_train" / f"{below}.JPEG")
    lists = {
        "train_pos_1": "ILSVRC2013_train/n01/n01_1\nILSVRC2013_train/n01/n01_2\n",
        "train_pos_2": "ILSVRC2013_train/n01/n01_2\n\n",
        "train_part_2": "ILSVRC2014_train_0006/x\n",
        "train_pos_10": "ILSVRC2013_train/n01/n01_1 1\n",
        **{f"train_pos_{k}": "ILSVRC2014_train_0006/x\n" for k in range(3, 10)},
        "train_neg_1": "ILSVRC2014_train_0006/x\n",
    }
    (root / "data" / "det_lists").mkdir(parents=True)
    for name, text in lists.items():
        (root / "data" / "det_lists" / f"{name}.txt").write_text(text)
    return root


def voc_tree(root: Path, picture, objects: dict[str, list[str]]) -> Path:
    (root / "Annotations").mkdir(parents=True)
    for name, classes in objects.items():
        picture(root / "JPEGImages" / f"{name}.jpg")
        tags = "".join(f"<object><name>{c}</name><part><name>head</name></part></object>" for c in classes)
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{tags}</annotation>")
    return root


def rows(data: LabelledImages) -> dict[str, set[str]]:
    """name -> class names"""
    pairs = zip(data.names, data.labels, strict=True)
    return {name: {data.class_names[k] for k in np.flatnonzero(label)} for name, label in pairs}


def fails(match: str, *args, **kwargs) -> None:
    with pytest.raises(InputError, match=match) as caught:
        open_labelled(*args, **kwargs)
    assert "\n" not in str(caught.value)


# ---- layouts


def test_imagenette(shared):
    root = shared("data", "imagenette")
    data = open_labelled(root)
    assert data.class_names == tuple(sorted(p.name for p in (root / "train").iterdir())) and len(data) == 2000
    assert data.single_label and data.counts.tolist() == [200] * 10
    assert all(data.class_names[data.labels[i].argmax()] == data.files[i].parent.name for i in range(0, 2000, 37))
    assert data.files == tuple(sorted(data.files)) and data.names == tuple(f.stem for f in data.files)
    val = open_labelled(root, split="val", class_names=data.class_names)
    assert val.counts.tolist() == [25] * 10 and val.files == open_labelled(root / "val").files
    assert open_labelled(root, "ilsvrc_cls").files == data.files


def test_voc_labels_are_the_classes_of_the_masks(shared):
    root = shared("data", "VOCdevkit", "VOC2012")
    data = open_labelled(root)
    assert len(data) == 53 and data.class_names == voc12.SPEC.class_names and not data.single_label
    for name, classes in rows(data).items():
        mask = np.asarray(Image.open(root / "SegmentationClass" / f"{name}.png"))
        assert classes == {voc12.SPEC.names[i] for i in np.unique(mask) if 0 < i < 255}
    train, aug = open_labelled(root.parent, split="train"), open_labelled(root, split="train_aug")
    assert len(train) == 43 and train.files == aug.files  # of the 53, all of train are in both
    listed = open_labelled(root, list_file=root / "ImageSets" / "Segmentation" / "val.txt")
    assert set(listed.files) == set(data.files) - set(train.files)
    assert rows(listed) == rows(open_labelled(root, split="val"))


def test_coco_labels_are_its_annotations(shared):
    root = shared("data", "coco128")
    held = json.loads((root / "instances_train2017.json").read_text())
    names = {c["id"]: c["name"] for c in held["categories"]}
    expected = {Path(image["file_name"]).stem: set() for image in held["images"]}
    stems = {image["id"]: Path(image["file_name"]).stem for image in held["images"]}
    for a in held["annotations"]:
        expected[stems[a["image_id"]]].add(names[a["category_id"]])
    data = open_labelled(root)
    assert rows(data) == expected and len(data) == 128 and sum(map(len, expected.values())) == data.labels.sum()
    assert data.class_names == tuple(names[i] for i in sorted(names))
    assert rows(open_labelled(root / "instances_train2017.json")) == expected
    assert rows(open_labelled(root, split="train2017", class_names=("dog", "cat"))) == {
        stem: own & {"dog", "cat"} for stem, own in expected.items()
    }


def test_voc_and_coco_together(shared):
    voc = open_labelled(shared("data", "VOCdevkit"), split="train")
    coco = open_labelled(shared("data", "coco128"), class_names=voc.class_names)
    both = merge(voc, coco)
    assert rows(both) == {**rows(voc), **rows(coco)} and len(both) == 43 + 128
    assert both.counts.tolist() == (voc.counts + coco.counts).tolist()
    of_coco = rows(open_labelled(shared("data", "coco128")))
    assert {n for n, own in rows(coco).items() if "tvmonitor" in own} == {n for n, o in of_coco.items() if "tv" in o}
    assert coco.counts[list(voc.class_names).index("diningtable")] == sum("dining table" in o for o in of_coco.values())


def test_folders(folders):
    data = open_labelled(folders)
    assert data.class_names == ("cat", "coffee cup", "dog") and data.single_label
    assert rows(data) == {  # two files are named a: so names are paths
        "cat/a": {"cat"},
        "cat/deep/er/b": {"cat"},
        "coffee cup/d": {"coffee cup"},
        "dog/a": {"dog"},
        "dog/c": {"dog"},
    }
    assert data.labels.dtype == np.uint8 and not data.labels.flags.writeable
    (folders / "class_names.txt").write_text("background\ndog\ncat\ncoffee cup\n")
    assert open_labelled(folders).class_names == ("dog", "cat", "coffee cup")
    assert open_labelled(folders, class_names=("dog", "cat", "coffee cup", "cow")).counts.tolist() == [2, 2, 1, 0]


def test_folders_in_parts(folders, tmp_path):
    for part in ("train", "val"):
        shutil.copytree(folders, tmp_path / "parts" / part)
    shutil.rmtree(tmp_path / "parts" / "val" / "dog")
    train = open_labelled(tmp_path / "parts")
    assert train.class_names == ("cat", "coffee cup", "dog") and len(train) == 5
    assert open_labelled(tmp_path / "parts", split="val", class_names=train.class_names).counts.tolist() == [2, 1, 0]
    fails("test", tmp_path / "parts", split="test")
    shutil.rmtree(tmp_path / "parts" / "train")
    assert len(open_labelled(tmp_path / "parts", split="val")) == 3
    fails("no folder .*train", tmp_path / "parts")


def test_names_keep_suffixes_where_they_have_to(tmp_path, picture):
    for name in ("a.jpg", "a.png", "b.png"):
        picture(tmp_path / "x" / name)
    assert open_labelled(tmp_path).names == ("a.jpg", "a.png", "b.png")


def test_csv(tmp_path, picture):
    for name in ("a.jpg", "sub/b.jpg", "c.jpg", "d.jpg"):
        picture(tmp_path / name)
    file = tmp_path / "labels.csv"
    text = 'file,label\na.jpg,cat; dog\n"sub/b.jpg",cat\n\n./a.jpg,bird\nc.jpg,\nsub/../d.jpg, dog;\n'
    file.write_text(text, encoding="utf-8-sig")
    expected = {"a": {"bird", "cat", "dog"}, "b": {"cat"}, "c": set(), "d": {"dog"}}
    for data in (open_labelled(tmp_path), open_labelled(file), open_labelled(tmp_path, "csv")):
        assert rows(data) == expected and data.class_names == ("bird", "cat", "dog") and not data.single_label
    file.rename(tmp_path / "labels_val.csv")
    assert rows(open_labelled(tmp_path, "csv", split="val")) == expected
    elsewhere = tmp_path / "lists" / "one.csv"
    elsewhere.parent.mkdir()
    elsewhere.write_text(f"../c.jpg,cat\n{tmp_path / 'd.jpg'},dog\n")  # no header, a path from the root
    data = open_labelled(elsewhere)
    assert rows(data) == {"c": {"cat"}, "d": {"dog"}} and data.single_label and data.files[0] == tmp_path / "c.jpg"


def test_relative_roots(tmp_path, picture, monkeypatch):
    picture(tmp_path / "cat" / "a.jpg")
    (tmp_path / "labels.csv").write_text("b.jpg,cat\ncat/a.jpg,cat\n")
    picture(tmp_path / "b.jpg")
    monkeypatch.chdir(tmp_path)
    assert open_labelled(Path()).files == (Path("b.jpg"), Path("cat/a.jpg"))
    assert open_labelled(Path(), "folders").files == (Path("cat/a.jpg"),)
    assert f"2 in {tmp_path}" in describe(open_labelled(Path("labels.csv")))


def test_ilsvrc_det(det):
    data = open_labelled(det)
    assert data.class_names == tuple(map(str, range(1, 11)))
    assert rows(data) == {"n01_1": {"1", "10"}, "n01_2": {"1", "2"}, "x": {str(k) for k in range(2, 10)}}
    (det / "data" / "map_det.txt").write_text("n02672831 1 accordion\nn02691156 2 airplane, plane\n")
    assert open_labelled(det).class_names[:3] == ("accordion", "airplane, plane", "3")
    (det / "data" / "det_lists").rename(det / "det_lists")
    assert rows(open_labelled(det)) == rows(data)


def test_voc_layout_with_classes_of_its_own(tmp_path, picture):
    root = voc_tree(tmp_path / "mine", picture, {"a": ["robot"], "b": ["robot", "apple"], "c": []})
    data = open_labelled(root)
    assert data.class_names == ("apple", "robot") and rows(data) == {
        "a": {"robot"},
        "b": {"apple", "robot"},
        "c": set(),
    }
    (root / "class_names.txt").write_text("robot\napple\n")
    assert open_labelled(root).class_names == ("robot", "apple")


# ---- LabelledImages


def test_take_and_merge(folders, tmp_path, picture):
    data = open_labelled(folders)
    part = data.take(np.flatnonzero(data.labels[:, 2]))
    assert part.names == ("dog/a", "dog/c") and part.files == data.files[3:] and part.counts.tolist() == [0, 0, 2]
    assert rows(merge(part, data.take([0, 3]))) == rows(data.take([0, 3, 4]))
    assert rows(merge(part, data)) == rows(merge(data, part)) == rows(data)
    other = picture(tmp_path / "other" / "dog" / "a.jpg")
    (tmp_path / "other" / "class_names.txt").write_text("cat\ncoffee cup\ndog")
    merged = merge(data.take([3]), open_labelled(tmp_path / "other"))
    assert merged.files == (other, data.files[3]) and len(set(merged.names)) == 2
    twice = LabelledImages(data.files[:1], np.array([[0, 1, 0]], np.uint8), data.class_names)
    assert merge(data, twice).labels[0].tolist() == [1, 1, 0] and data.labels[0].tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match="same class names"):
        merge(data, LabelledImages(data.files[:1], np.ones((1, 1), np.uint8), ("cat",)))
    with pytest.raises(ValueError, match="labels must be uint8"):
        LabelledImages(data.files, data.labels[:2], data.class_names)


def test_description(folders, shared):
    text = describe(open_labelled(folders, class_names=("cow", "cat", "dog", "coffee cup")))
    for line in (
        f"images          5 in {folders}",
        "classes         4",
        "without images  cow",
        "size            48x32",
    ):
        assert f"{line}\n" in f"{text}\n"
    assert "cat 2, dog 2, coffee cup 1" in text and "with none 0, with one 5, with more 0" in text
    coco = describe(open_labelled(shared("data", "coco128")))
    assert "person 61, car 12" in coco and "..." in coco and max(map(len, coco.splitlines())) < 160
    assert "with none 2, with one 25, with more 101" in coco and "640x218 to 640x611" in coco


# ---- bad input


def test_roots_that_are_none(tmp_path, picture):
    fails("--cls_val_dir .*none: no such", tmp_path / "none", flag="--cls_val_dir")
    fails("no labelled images in it", tmp_path)
    fails("no labelled images in it", picture(tmp_path / "a" / "a.jpg").parent)
    fails("no labelled images in it", picture(tmp_path / "b.png"))
    fails("no folder in it", tmp_path / "a", "folders")
    fails("none of auto, ilsvrc_det", tmp_path, "imagenet")
    fails("JPEGImages", tmp_path, "voc12")
    fails("there: none; give the file", tmp_path, "coco")
    fails("ILSVRC2014_DET_train", tmp_path, "ilsvrc_det")
    fails("labels.csv: cannot be read", tmp_path, "csv")
    fails("no folder .*b.png", tmp_path / "b.png", "folders")


def test_class_folders(folders):
    fails("'coffee cup' is none of the 2 classes \\(cat, dog\\)", folders, class_names=("cat", "dog"))
    fails("no synset", folders, "ilsvrc_cls")
    (folders / "empty").mkdir()
    fails("no picture in the class folder empty", folders)


def test_pictures_that_cannot_be_read(folders):
    whole = (folders / "dog" / "a.jpg").read_bytes()
    for content in (b"", b"no picture at all", whole[: len(whole) // 2]):
        (folders / "dog" / "a.jpg").write_bytes(content)
        fails("a.jpg is no picture that can be read", folders)


def test_readable_pictures_are_sampled_evenly(folders, monkeypatch):
    seen = []
    monkeypatch.setattr(labelled, "NUM_SAMPLED", 3)
    monkeypatch.setattr(labelled, "read_image", seen.append)
    files = open_labelled(folders).files
    assert sorted(seen) == [files[0], files[2], files[4]]


def test_csv_files(tmp_path, picture):
    file = tmp_path / "labels.csv"
    picture(tmp_path / "a.jpg")

    def fails_with(text: str | bytes, match: str, **kwargs) -> None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        fails(match, tmp_path, **kwargs)

    fails_with("file,label\na.jpg,cat\nb.jpg,cat\nsub/c.jpg,dog\n", "2 of 3 pictures are missing, .*b.jpg")
    fails_with("file,label\na.jpg,cow\n", "'cow' is none of the 2 classes", class_names=("cat", "dog"))
    fails_with("file,label\na.jpg\n", "row 2 is 'a.jpg', not file,label;label")
    fails_with("a.jpg,cat,dog\n", "row 1 is 'a.jpg,cat,dog'")
    fails_with("file,label\n,cat\n", "row 2")
    fails_with("file,label\na.jpg,\n", "none of its 1 pictures has a label")
    fails_with("file,label\n", "no picture in it, read as csv")
    fails_with(b"file,label\n\xff\xfe,cat\n", "cannot be read as a CSV file in UTF-8")
    (tmp_path / "list.txt").write_text("a\nb\nc\n")
    fails_with(
        "a.jpg,cat\n", "--cls_dataset_dir .*list.txt: 2 of its images have no label, b", list_file=tmp_path / "list.txt"
    )


def test_det_lists(det):
    (det / "data" / "det_lists" / "train_pos_1.txt").write_text("ILSVRC2013_train/n01/n01_7\n")
    fails("1 of 4 pictures are missing, .*n01_7.JPEG", det)
    (det / "data" / "det_lists" / "train_pos_1.txt").write_text("")
    fails("class 1 is empty: .*train_pos_1.txt", det)
    (det / "data" / "det_lists" / "train_pos_4.txt").unlink()
    (det / "data" / "det_lists" / "train_pos_1.txt").write_text("ILSVRC2013_train/n01/n01_1\n")
    fails("train_pos_4.txt: cannot be read", det)


def test_voc_files(tmp_path, picture):
    root = voc_tree(tmp_path / "VOC2012", picture, {"a": ["cat"], "b": ["dog", "cat"]})
    fails("train.txt: cannot be read", root, split="train")
    fails("'dog' is none of the 1 classes", root, class_names=("cat",))
    annotation = root / "Annotations" / "a.xml"
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>'
    for text in (bomb.encode(), bomb.encode("utf-16"), b"<annotation>", b""):
        annotation.write_bytes(text)
        fails("a.xml: (declares a document type|is no XML)", root)
    annotation.unlink()
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("a\n")
    fails("a.xml: No such file", root, split="train")
    (root / "JPEGImages" / "b.jpg").unlink()
    fails("1 of 1 pictures are missing, .*b.jpg", root)


def test_coco_files(tmp_path, picture):
    file = tmp_path / "annotations" / "instances_train2014.json"
    file.parent.mkdir()
    picture(tmp_path / "train2014" / "a.jpg")
    image = {"id": 7, "file_name": "a.jpg", "height": 32, "width": 48}
    annotation = {"id": 1, "image_id": 7, "category_id": 3}
    good = {"images": [image], "annotations": [annotation], "categories": [{"id": 3, "name": "cat"}]}

    def fails_with(match: str, **changes) -> None:
        file.write_text(json.dumps({**good, **changes}))
        fails(match, tmp_path)

    file.write_text(json.dumps(good))
    assert rows(open_labelled(tmp_path)) == {"a": {"cat"}}
    fails("the class cow is no category", tmp_path, class_names=("cat", "cow"))
    fails_with("of no category", categories=[])
    fails_with("no instances json of COCO", annotations=[{**annotation, "image_id": 8}])
    fails_with("no instances json of COCO", images=[{"id": 7}])
    fails_with("1 of 2 pictures are missing", images=[image, {**image, "id": 8, "file_name": "b.jpg"}])
    for text in ("[]", '{"images": 3}'):
        file.write_text(text)
        fails("no instances json of COCO", tmp_path)
    file.write_text("{")
    fails("cannot be read", tmp_path)
    file.write_text(json.dumps(good))
    (tmp_path / "annotations" / "instances_val2014.json").write_text(json.dumps(good))
    assert len(open_labelled(tmp_path)) == 1  # train, where nothing is said
    (tmp_path / "annotations" / "instances_train2017.json").write_text(json.dumps(good))
    fails("there: instances_train2014.json, instances_train2017.json, instances_val2014.json; give", tmp_path)


def test_order_is_that_of_the_paths_on_every_disk(folders, monkeypatch):
    expected = open_labelled(folders).files
    scandir = labelled.os.scandir

    class Backwards(list):
        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda *_: None  # noqa: E731

    monkeypatch.setattr(
        labelled.os, "scandir", lambda folder: Backwards(sorted(scandir(folder), key=lambda e: e.name)[::-1])
    )
    assert open_labelled(folders).files == expected


def test_csv_of_val_boxes_is_no_label_file(shared):
    with shared("data", "imagenette", "val_boxes.csv").open() as f:
        assert len(next(csv.reader(f))) > 2
    fails("val_boxes.csv: row 2 .* not file,label;label", shared("data", "imagenette", "val_boxes.csv"))
