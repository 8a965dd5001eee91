"""Exports, read back as the tools that they are for read them."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools.coco import COCO

from data.datasets import DATASETS, DatasetSpec
from misc.errors import InputError
from misc.report.export import (
    Labelled,
    export_coco,
    export_labelme,
    export_masks,
    export_voc,
    painted_outlines,
    polygons,
)

VOC = DATASETS["voc12"]


@pytest.fixture
def labelled(shared):
    root = shared("data", "VOCdevkit", "VOC2012")
    paths = sorted((root / "SegmentationClass").iterdir())[:6]
    return [Labelled(root / "JPEGImages" / f"{p.stem}.jpg", np.asarray(Image.open(p))) for p in paths]


def noise(seed):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 40, 2)
    return (
        rng.integers(0, rng.integers(1, 5), shape) if seed % 2 else np.kron(rng.integers(0, 3, (3, 4)), np.eye(7) > 0)
    )


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


def test_thin_parts_have_polygons_with_an_area():
    for mask in (np.eye(5) > 0, np.ones((1, 1), bool), np.ones((1, 5), bool)):
        for outline in polygons(mask):
            assert len(outline) >= 4 and cv2.contourArea(np.float32(outline)) > 0


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


def paint(outlines, shape):
    picture = np.zeros(shape, np.uint8)
    for value, outline in outlines:
        cv2.fillPoly(picture, [np.array(outline, np.int32)], int(value))
    return picture


@pytest.mark.parametrize("seed", range(30))
def test_outlines_painted_in_order_are_the_label_map(seed):
    label = noise(seed).astype(np.uint8)
    np.testing.assert_array_equal(paint(painted_outlines(label), label.shape), label)


def test_labelme_files_painted_as_labelme_does_are_the_labels(labelled, tmp_path):
    assert export_labelme(iter(labelled), VOC, tmp_path) == len(labelled)
    values = {name: i for i, name in enumerate(VOC.names)} | {"_background_": 0, "__ignore__": 255}
    for item in labelled:
        held = json.loads((tmp_path / f"{item.image.stem}.json").read_text())
        assert (tmp_path / held["imagePath"]).resolve() == item.image.resolve() and held["imageData"] is None
        assert (held["imageHeight"], held["imageWidth"]) == item.label.shape
        picture = Image.new("L", item.label.shape[::-1])
        draw = ImageDraw.Draw(picture)
        for shape in held["shapes"]:
            assert shape["shape_type"] == "polygon" and len(shape["points"]) >= 3
            colour = values[shape["label"]]
            draw.polygon([tuple(point) for point in shape["points"]], fill=colour, outline=colour)
        assert (np.asarray(picture) != item.label).mean() < 1e-3


def test_masks_are_0_and_255(tmp_path):
    export_masks([Labelled(tmp_path / "a.jpg", np.array([[0, 1, 2, 255]]))], VOC, tmp_path / "out")
    assert np.asarray(Image.open(tmp_path / "out" / "a.png")).tolist() == [[0, 255, 255, 0]]
