"""Exports, read back as the tools that they are for read them."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools.coco import COCO

from data.datasets import DATASETS, DatasetSpec
from misc.errors import InputError
from misc.files.store import read_json, write_json
from misc.report.export import (
    OF_ALL,
    OF_ONE,
    Labelled,
    export_coco,
    export_voc,
    write_binary,
    write_cutout,
    write_labelme,
    write_overlay,
)
from misc.report.kinds import EXPORT_FORMATS, Simplify

VOC = DATASETS["voc12"]


@pytest.fixture
def labelled(shared):
    root = shared("data", "VOCdevkit", "VOC2012")
    paths = sorted((root / "SegmentationClass").iterdir())[:6]
    return [Labelled(root / "JPEGImages" / f"{p.stem}.jpg", np.asarray(Image.open(p))) for p in paths]


def filled(mask):
    """mask with the holes of its parts (joined through 8 neighbours) filled."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros(mask.shape, np.uint8), outlines, -1, 1, cv2.FILLED) > 0


@pytest.mark.parametrize("shapes", ["rle", "polygons"])
def test_coco_is_read_back_by_pycocotools(labelled, tmp_path, shapes):
    assert export_coco(iter(labelled), VOC, tmp_path, shapes) == len(labelled)
    coco = COCO(str(tmp_path / "instances.json"))
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(VOC.class_names)
    for item, image in zip(labelled, coco.loadImgs(coco.getImgIds()), strict=True):
        assert image["file_name"] == item.image.name and (image["height"], image["width"]) == item.label.shape
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        assert {a["category_id"] for a in annotations} == set(np.unique(item.label).tolist()) - {0, 255}
        for a in annotations:
            mask = item.label == a["category_id"]
            found = coco.annToMask(a) > 0
            expected = mask if shapes == "rle" else filled(mask)
            assert (found != expected).sum() <= (0 if shapes == "rle" else 0.002 * expected.sum())
            x, y, w, h = a["bbox"]
            assert a["area"] == mask.sum() and mask[y : y + h, x : x + w].sum() == mask.sum()
            assert mask[y].any() and mask[y + h - 1].any() and mask[:, x].any() and mask[:, x + w - 1].any()


def test_coco_json_holds_the_numbers_of_the_data_set(tmp_path):
    label = np.zeros((6, 8), np.uint8)
    label[1:4, 2:7], label[5, 0] = 80, 255
    item = Labelled(tmp_path / "COCO_val2014_000000000042.jpg", label)
    for shapes in ("rle", "polygons"):
        export_coco([item], DATASETS["coco14"], tmp_path, shapes)
        held = json.loads((tmp_path / "instances.json").read_text())
        (annotation,) = held["annotations"]
        assert annotation["image_id"] == 42 and annotation["category_id"] == 90 and annotation["area"] == 15
        assert annotation["bbox"] == [2, 1, 5, 3] and held["categories"][-1] == {"id": 90, "name": "toothbrush"}
    ring = np.array(annotation["segmentation"][0]).reshape(-1, 2)
    assert ring.min(axis=0).tolist() == [2.25, 1.25] and ring.max(axis=0).tolist() == [6.75, 3.75]
    export_coco([item], VOC.__class__("mine", tuple(map(str, range(80)))), tmp_path)
    held = json.loads((tmp_path / "instances.json").read_text())
    assert held["images"][0]["id"] == 1 and held["annotations"][0]["category_id"] == 80


def test_voc_files_are_voc_files(labelled, tmp_path):
    assert export_voc(iter(labelled), VOC, tmp_path, "mine") == len(labelled)
    names = (tmp_path / "ImageSets" / "Segmentation" / "mine.txt").read_text().split()
    assert names == [item.image.stem for item in labelled]
    for item in labelled:
        with Image.open(tmp_path / "SegmentationClass" / f"{item.image.stem}.png") as written:
            assert written.mode == "P"
            np.testing.assert_array_equal(np.asarray(written), item.label)
            np.testing.assert_array_equal(np.array(written.getpalette()).reshape(-1, 3), VOC.palette)
    with pytest.raises(InputError, match="above 255"):
        export_voc([], DatasetSpec("large", ("a",), ignore=300), tmp_path)


def test_every_format_has_its_function():
    assert sorted([*OF_ALL, *OF_ONE]) == sorted(EXPORT_FORMATS)


def painted_as_labelme_does(held, shape):
    """(H,W) uint8, by the rules of labelme.utils.shapes_to_label."""
    values = {name: i for i, name in enumerate(VOC.names)} | {"_background_": 0, "__ignore__": 255, "salient object": 1}
    picture = Image.new("L", shape[::-1])
    draw = ImageDraw.Draw(picture)
    for one in held["shapes"]:
        assert one["shape_type"] == "polygon" and len(one["points"]) >= 3
        colour = values[one["label"]]
        draw.polygon([tuple(point) for point in one["points"]], fill=colour, outline=colour)
    return np.asarray(picture)


def test_labelme_files_painted_as_labelme_does_are_the_labels(labelled, tmp_path):
    assert all(write_labelme(item, VOC, tmp_path) for item in labelled)
    for item in labelled:
        held = read_json(tmp_path / f"{item.image.stem}.json")
        assert (tmp_path / held["imagePath"]).resolve() == item.image.resolve() and held["imageData"] is None
        assert (held["imageHeight"], held["imageWidth"]) == item.label.shape
        assert (painted_as_labelme_does(held, item.label.shape) != item.label).mean() < 1e-3


def test_simplified_labelme_files_are_short_and_near_to_the_labels(labelled, tmp_path):
    for item in labelled:
        exact, simple = tmp_path / "exact", tmp_path / "simple"
        write_labelme(item, VOC, exact)
        write_labelme(item, VOC, simple, Simplify())
        points = [
            sum(len(one["points"]) for one in read_json(folder / f"{item.image.stem}.json")["shapes"])
            for folder in (exact, simple)
        ]
        found = painted_as_labelme_does(read_json(simple / f"{item.image.stem}.json"), item.label.shape)
        there = (found > 0) | (item.label > 0)
        assert points[1] < 0.6 * points[0] and (found == item.label)[there].mean() > 0.95


def test_what_a_person_has_corrected_stays(tmp_path):
    label = np.zeros((40, 60), np.uint8)
    label[5:30, 10:50] = 1
    item, path = Labelled(tmp_path / "a.jpg", label), tmp_path / "a.json"
    assert write_labelme(item, VOC, tmp_path)
    first = path.read_bytes()
    held = read_json(path)
    saved = {**held, "shapes": [{**s, "points": [[float(v) for v in p] for p in s["points"]]} for s in held["shapes"]]}
    write_json(path, saved)  # as labelme saves it: a correction is what has moved
    assert write_labelme(item, VOC, tmp_path) and path.read_bytes() == first
    saved["shapes"][0]["points"][0] = [3.5, 2.0]
    for changed in (saved, {**saved, "shapes": []}, {"version": "5", "shapes": []}, {"shapes": 3}):
        write_json(path, changed)
        kept = path.read_bytes()
        assert not write_labelme(item, VOC, tmp_path) and path.read_bytes() == kept
    path.unlink()
    assert write_labelme(item, VOC, tmp_path)


def test_coco_polygons_are_simplified(labelled, tmp_path):
    for name, simplify in (("exact", None), ("simple", Simplify())):
        export_coco(iter(labelled), VOC, tmp_path / name, "polygons", simplify)
    exact, simple = (COCO(str(tmp_path / name / "instances.json")) for name in ("exact", "simple"))
    for one, other in zip(exact.dataset["annotations"], simple.dataset["annotations"], strict=True):
        a, b = exact.annToMask(one) > 0, simple.annToMask(other) > 0
        assert (a & b).sum() / (a | b).sum() > 0.94
    points = [sum(len(r) for a in c.dataset["annotations"] for r in a["segmentation"]) for c in (exact, simple)]
    assert points[1] < 0.4 * points[0]


def test_masks_are_0_and_255(tmp_path):
    write_binary(Labelled(tmp_path / "a.jpg", np.array([[0, 1, 2, 255]])), VOC, tmp_path / "out")
    assert np.asarray(Image.open(tmp_path / "out" / "a.png")).tolist() == [[0, 255, 255, 0]]


@pytest.fixture
def cat(photographs, tmp_path):
    """A photograph of the disk, with two classes and void in it."""
    Image.fromarray(photographs.cat).save(tmp_path / "cat.png")
    label = np.zeros(photographs.cat.shape[:2], np.uint8)
    label[50:250, 100:300], label[100:150, 150:200], label[0:9] = 8, 12, 255
    return Labelled(tmp_path / "cat.png", label, "sub/cat")


def test_a_cutout_is_the_image_and_nothing_around_its_objects(cat, photographs, tmp_path):
    write_cutout(cat, VOC, tmp_path / "out")
    with Image.open(tmp_path / "out" / "sub" / "cat.png") as picture:
        assert picture.mode == "RGBA"
        found = np.asarray(picture)
    inside = (cat.label > 0) & (cat.label < 255)
    assert (found[..., 3] == inside * 255).all() and (found[inside][:, :3] == photographs.cat[inside]).all()
    assert not found[~inside].any()


def test_an_overlay_is_the_image_with_the_label_over_it(cat, photographs, tmp_path):
    write_overlay(cat, VOC, tmp_path / "out")
    with Image.open(tmp_path / "out" / "sub" / "cat.jpg") as picture:
        found = np.asarray(picture).astype(int)
    inside = (cat.label > 0) & (cat.label < 255)
    difference = np.abs(found - photographs.cat).sum(axis=2)
    assert difference[~inside].mean() < 12 and difference[inside].mean() > 60
    border, within = found[100, 160:190].mean(axis=0), found[125, 160:190].mean(axis=0)
    assert np.abs(border - within).max() > 20


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"text")
    for write in (write_cutout, write_overlay):
        with pytest.raises(OSError, match=r"a\.jpg: is no picture"):
            write(Labelled(tmp_path / "a.jpg", np.ones((3, 3), np.uint8)), VOC, tmp_path / "out")
