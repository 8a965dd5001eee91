"""What was refused for no good reason, and messages that say what was found and what to do."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

import net
from misc.files.contents import kind_of
from misc.files.predictions import read_prediction
from misc.report.export import Labelled, export_coco, export_voc
from net.weights import load_backbone, read_checkpoint, save_checkpoint
from tests.foreign.commands import (
    MAPS_ALONE,
    disc,
    export_labels,
    failed,
    names,
    one_error,
    photos,
    picture,
    sample,
    save,
    score,
    score_classes,
    slic,
    written,
)

CAMERAS = ("beach/IMG_0001.jpg", "city/IMG_0001.jpg", "city/old/IMG_0001.png", "IMG_0002.jpg")
NAMES = ["IMG_0002", "beach/IMG_0001", "city/IMG_0001", "city/old/IMG_0001"]


# 21: two files of one stem


@pytest.fixture
def cameras(tmp_path):
    root = photos(tmp_path / "photos", *CAMERAS)
    for name in NAMES:
        save(tmp_path / "masks" / f"{name}.png", disc() * np.uint8(255))
    return root


def test_outputs_mirror_subfolders_through_every_command(cameras, tmp_path):
    result, masks = tmp_path / "r", ("--mask_dir", tmp_path / "masks")
    assert sample(cameras, "--result_dir", result, *masks, "--export", "labelme") == 0
    assert slic("--result_dir", result, *masks, "--export", "voc") == 0
    for kind in ("cam", "cam_pamr", "cam_slic"):
        assert names(result / kind) == NAMES
    assert names(result / "export" / "voc" / "cam_slic" / "SegmentationClass") == NAMES
    held = json.loads((result / "export/labelme/cam_pamr/beach/IMG_0001.json").read_text())
    assert (result / "export/labelme/cam_pamr/beach" / held["imagePath"]).resolve() == (cameras / CAMERAS[0]).resolve()
    assert json.loads((result / "metrics.json").read_text())["cam_slic"]["n"] == 4
    assert names(result / "report_files", ".webp") == NAMES
    page = (result / "report.html").read_text(encoding="utf-8")
    assert all(f'"{name}"' in page for name in NAMES)
    other = ("--img_root", cameras, "--prob_root", result / "cam", "--result_dir", tmp_path / "other", *masks)
    assert slic(*other) == 0
    for name in NAMES:
        one, two = (folder / "cam_slic" / f"{name}.png" for folder in (result, tmp_path / "other"))
        assert one.read_bytes() == two.read_bytes()
    argv = ("--pred_dir", result / "cam_slic", *masks, "--out", tmp_path / "s.json")
    assert score(*argv) == 0 and written(tmp_path / "s.json")["n"] == 4
    argv = ("--pred_dir", result / "cam_pamr", "--image_dir", cameras, "--out_dir", tmp_path / "o")
    assert export_labels(*argv, "--format", "masks") == 0 and names(tmp_path / "o") == NAMES


def test_flat_maps_and_masks_belong_to_names_that_occur_once(tmp_path):
    photos(tmp_path / "photos", "beach/a.jpg", "city/b.jpg")
    for name in "ab":
        save(tmp_path / "maps" / f"{name}.PNG", disc() * np.uint8(200))
        save(tmp_path / "masks" / f"{name}.png", disc() * np.uint8(255))
    argv = ("--img_root", tmp_path / "photos", "--prob_root", tmp_path / "maps", "--mask_dir", tmp_path / "masks")
    assert slic(*argv, "--result_dir", tmp_path / "r") == 0
    assert json.loads((tmp_path / "r" / "metrics.json").read_text())["cam_slic"]["n"] == 2
    photos(tmp_path / "photos", "other/a.jpg")
    assert slic(*argv, "--result_dir", tmp_path / "s") == 1  # which of the two is it of?
    assert {file for step, file in failed(tmp_path / "s") if step == "make_slic"} == {"a.jpg"}


def test_a_data_set_root_stays_flat(tmp_path):
    photos(tmp_path / "DUTS-TR", "DUTS-TR-Image/a.jpg", "DUTS-TE-Image/b.jpg")
    save(tmp_path / "DUTS-TR" / "DUTS-TR-Mask" / "a.png", disc() * np.uint8(255))
    assert sample(tmp_path / "DUTS-TR", "--result_dir", tmp_path / "r", "--make_label_pass", "False") == 0
    assert names(tmp_path / "r" / "cam") == ["a"]
    assert json.loads((tmp_path / "r" / "metrics.json").read_text())["cam"]["n"] == 1


def test_image_and_mask_side_by_side_are_a_layout(tmp_path, capsys):
    for name in ("a", "sub/b"):
        save(tmp_path / "set" / f"{name}.jpg", picture())
        save(tmp_path / "set" / f"{name}.png", disc() * np.uint8(255))
    assert sample(tmp_path / "set", "--result_dir", tmp_path / "r", "--make_label_pass", "False") == 0
    assert names(tmp_path / "r" / "cam") == ["a", "sub/b"]
    assert json.loads((tmp_path / "r" / "metrics.json").read_text())["cam"]["n"] == 2
    assert "image and mask side by side, masks of 2" in capsys.readouterr().out
    photos(tmp_path / "set", "single.jpg")
    assert sample(tmp_path / "set", "--result_dir", tmp_path / "r") == 2
    error = one_error(capsys)
    assert "a.jpg" in error and "a.png" in error and "rename one of them" in error
    photos(tmp_path / "twice", "a.jpg", "a.png")  # two photographs
    assert sample(tmp_path / "twice", "--result_dir", tmp_path / "r") == 2


# 6: COCO and VOC exports of images with subfolders


def labelled(tmp_path, spec_of_names):
    for i, name in enumerate(spec_of_names):
        label = np.zeros((48, 64), np.uint8)
        label[disc()] = 1 + i % 2
        yield Labelled(tmp_path / f"{name}.jpg", label, name)


def test_coco_keeps_subfolders_and_numbers_do_not_collide(cameras, tmp_path):
    argv = ("--pred_dir", tmp_path / "masks", "--image_dir", cameras, "--out_dir", tmp_path / "o", "--format", "coco")
    assert export_labels(*argv) == 0
    coco = COCO(str(tmp_path / "o" / "instances.json"))
    images = coco.loadImgs(coco.getImgIds())
    assert sorted(image["file_name"] for image in images) == sorted(CAMERAS)
    assert all((cameras / image["file_name"]).is_file() for image in images)
    assert all(len(coco.getAnnIds(image["id"])) == 1 for image in images)
    assert coco.dataset["info"]["version"]
    found = [{"image_id": i["id"], "category_id": 1, "bbox": [1, 1, 5, 5], "score": 0.5} for i in images]
    (tmp_path / "found.json").write_text(json.dumps(found))
    assert len(coco.loadRes(str(tmp_path / "found.json")).anns) == 4


@pytest.mark.parametrize("stems", [("a/7", "b/7"), ("x7", "y07"), ("7", "none")])
def test_numbers_in_names_are_taken_where_all_differ(stems, tmp_path):
    from data.datasets import DATASETS

    export_coco(labelled(tmp_path, stems), DATASETS["coco14"], tmp_path)
    coco = COCO(str(tmp_path / "instances.json"))
    assert coco.getImgIds() == [1, 2] and [coco.loadAnns(coco.getAnnIds(i))[0]["category_id"] for i in (1, 2)] == [1, 2]
    export_coco(labelled(tmp_path, ("a/COCO_7", "b/COCO_9")), DATASETS["coco14"], tmp_path)
    assert COCO(str(tmp_path / "instances.json")).getImgIds() == [7, 9]


def own_spec(*class_names):
    from data.datasets import DatasetSpec

    return DatasetSpec("own", class_names)


def test_voc_of_ones_own_classes_is_read_by_cvats_reader(tmp_path):
    datumaro = pytest.importorskip("datumaro", reason="datumaro is not installed (tests/foreign/requirements.txt)")
    for name in ("x", "y"):
        save(tmp_path / "JPEGImages" / f"{name}.jpg", picture())
    export_voc(labelled(tmp_path, ("x", "y")), own_spec("cat", "dog"), tmp_path)
    dataset = datumaro.Dataset.import_from(str(tmp_path), "voc_segmentation")
    labels = dataset.categories()[datumaro.AnnotationType.label]
    found = {item.id: {labels[a.label].name for a in item.annotations if a.type.name == "mask"} for item in dataset}
    assert {name: own - {"background"} for name, own in found.items()} == {"x": {"cat"}, "y": {"dog"}}


def test_coco_is_read_by_supervision(tmp_path):
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    for name in ("x", "sub/y"):
        save(tmp_path / f"{name}.jpg", picture())
    export_coco(labelled(tmp_path, ("x", "sub/y")), own_spec("cat", "dog"), tmp_path, "polygons")
    held = supervision.DetectionDataset.from_coco(str(tmp_path), str(tmp_path / "instances.json"), force_masks=True)
    assert held.classes == ["cat", "dog"] and len(held) == 2
    for path, _, detections in held:
        assert "x.jpg" in path or "y.jpg" in path
        assert (detections.mask[0] != disc()).mean() < 0.05  # with its border


def test_labelme_files_are_opened_by_labelme_and_what_it_corrects_stays(cameras, tmp_path, capsys):
    utils = pytest.importorskip("labelme.utils", reason="labelme is not installed (tests/foreign/requirements.txt)")
    try:
        from labelme._label_file import LabelFile
    except ImportError:
        from labelme.label_file import LabelFile
    argv = ("--pred_dir", tmp_path / "masks", "--image_dir", cameras, "--out_dir", tmp_path / "o")
    assert export_labels(*argv, "--format", "labelme") == 0
    paths = [tmp_path / "o" / f"{name}.json" for name in NAMES]
    for path, name in zip(paths, NAMES, strict=True):
        held = LabelFile(str(path))
        size = utils.img_data_to_arr(held.imageData).shape[:2]
        found = utils.shapes_to_label(size, held.shapes, {"_background_": 0, "salient object": 1})[0] > 0
        wanted = np.asarray(Image.open(tmp_path / "masks" / f"{name}.png")) > 0
        assert held.shapes and (found & wanted).sum() / (found | wanted).sum() > 0.96
    facts = json.loads(paths[0].read_text())
    shapes = [{**one, "points": one["points"][1:]} for one in facts["shapes"]]
    size = facts["imageHeight"], facts["imageWidth"]
    held = LabelFile(str(paths[0]))
    held.save(str(paths[0]), shapes, facts["imagePath"], *size, None, {"made": facts["made"]}, {})
    before = [path.read_bytes() for path in paths]
    capsys.readouterr()
    assert export_labels(*argv, "--format", "labelme") == 0
    assert "1 that somebody has changed kept" in capsys.readouterr().out
    assert [path.read_bytes() for path in paths] == before


# 22: messages, and what can be read after all


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no bytes at all"),
        (b"\0\0\0\x18ftypheic\0\0", "HEIC (pip install pillow-heif)"),
        (b"\n<!DOCTYPE html><html>", "a web page (HTML)"),
        (b"PK\x03\x04rest", "a ZIP archive"),
        (b"%PDF-1.7", "a PDF"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS"),
        (b"<?xml version='1.0'?><svg/>", "XML or SVG"),
        (bytes(100), "zeros"),
        (b"hello", "text"),
        (bytes(range(1, 60)), "bytes of no known kind"),
    ],
)
def test_what_is_no_picture_is_called_by_what_it_is(content, words, tmp_path):
    assert words in kind_of(content)
    photos(tmp_path / "set", "good.png")
    (tmp_path / "set" / "bad.jpg").write_bytes(content)
    assert sample(tmp_path / "set", "--result_dir", tmp_path / "r", *MAPS_ALONE) == 1
    reason = failed(tmp_path / "r")["make_cam", "bad.jpg"]
    assert reason.startswith("is no picture that can be read") and "BytesIO" not in reason
    assert words in reason or "pillow-heif" in words


def test_predictions_of_any_suffix_are_found_by_every_command(tmp_path):
    photos(tmp_path / "i", "a.jpg", "b.jpg")
    for name in "ab":
        save(tmp_path / "m" / f"{name}.png", disc().astype(np.uint8))
    save(tmp_path / "p" / "a.PNG", disc() * np.uint8(255))
    save(tmp_path / "p" / "b.jpg", disc() * np.uint8(255), quality=100)
    assert score("--pred_dir", tmp_path / "p", "--mask_dir", tmp_path / "m") == 0
    argv = ("--pred_dir", tmp_path / "p", "--image_dir", tmp_path / "i", "--out_dir", tmp_path / "o")
    assert export_labels(*argv, "--format", "coco") == 0
    (tmp_path / "p" / "b.jpg").unlink()
    save(tmp_path / "p" / "a.PNG", disc().astype(np.uint8))
    np.save(tmp_path / "p" / "b.npy", disc().astype(np.int64))
    argv = ("--pred_dir", tmp_path / "p", "--mask_dir", tmp_path / "m", "--dataset", "voc12")
    assert (
        score_classes(*argv, "--out", tmp_path / "s.json") == 0
        and written(tmp_path / "s.json")["iou"]["aeroplane"] == 1
    )


def test_a_jpeg_keeps_no_labels(tmp_path, capsys):
    save(tmp_path / "m" / "a.png", disc().astype(np.uint8))
    save(tmp_path / "p" / "a.jpg", disc().astype(np.uint8))
    assert score_classes("--pred_dir", tmp_path / "p", "--mask_dir", tmp_path / "m", "--dataset", "voc12") == 2
    assert "is a JPEG, which does not keep labels" in one_error(capsys)


def test_cams_of_clip_es_are_read(tmp_path):
    cams = np.random.default_rng(0).random((2, 5, 7)).astype(np.float32)
    np.save(tmp_path / "a.npy", {"keys": torch.tensor([3, 14]), "attn_highres": cams})
    assert read_prediction(tmp_path / "a.npy").labels.tolist() == [4, 15]


@pytest.fixture
def classifier(tmp_path):
    """torchvision's ResNet-50, of three classes."""
    from torchvision.models import resnet50

    torch.manual_seed(0)
    return resnet50(num_classes=3).state_dict()


WRAPPED = {
    "lightning": lambda state: {"state_dict": {f"model.{k}": v for k, v in state.items()}, "epoch": 3},
    "compiled": lambda state: {f"_orig_mod.{k}": v for k, v in state.items()},
    "parallel and compiled": lambda state: {f"module._orig_mod.{k}": v for k, v in state.items()},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer_state_dict": {}},
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrapped_checkpoints_are_read(kind, classifier, tmp_path):
    torch.save(WRAPPED[kind](classifier), tmp_path / "w.pth")
    assert torch.equal(
        read_checkpoint(tmp_path / "w.pth").state_dict()["backbone.conv1.weight"], classifier["conv1.weight"]
    )


def test_a_backbone_without_a_head_is_a_start_and_no_cam_network(classifier, tmp_path, capsys):
    torch.save({k: v for k, v in classifier.items() if not k.startswith("fc.")}, tmp_path / "w.pth")
    network = net.build("resnet50", 2)
    load_backbone(network, tmp_path / "w.pth")
    assert torch.equal(network.state_dict()["backbone.conv1.weight"], classifier["conv1.weight"])
    photos(tmp_path / "i", "a.png")
    assert sample(tmp_path / "i", "--result_dir", tmp_path / "r", "--cam_weights_dir", tmp_path / "w.pth") == 2
    assert "names of no network here: conv1.weight" in one_error(capsys)


def test_what_a_checkpoint_holds_is_said(tmp_path, capsys):
    torch.save({"encoder.first.weight": torch.ones(1)}, tmp_path / "w.pth")
    photos(tmp_path / "i", "a.png")
    assert sample(tmp_path / "i", "--result_dir", tmp_path / "r", "--cam_weights_dir", tmp_path / "w.pth") == 2
    assert "encoder.first.weight" in one_error(capsys)
    save_checkpoint(tmp_path / "own.pth", net.build("efficientnet_lite0", 2))
    read_checkpoint(tmp_path / "own.pth")


def test_scientific_tiffs_are_read(tmp_path):
    import tifffile

    (tmp_path / "set").mkdir()
    gray = picture()[..., 0]
    tifffile.imwrite(tmp_path / "set" / "pages.tif", np.stack([gray] * 3), photometric="minisblack")
    tifffile.imwrite(tmp_path / "set" / "float64.tif", gray / 255.0)
    tifffile.imwrite(tmp_path / "set" / "rgb16.tif", picture().astype(np.uint16) * 257, photometric="rgb")
    tifffile.imwrite(tmp_path / "set" / "uint32.tif", gray.astype(np.uint32))
    assert sample(tmp_path / "set", "--result_dir", tmp_path / "r", *MAPS_ALONE) == 0
    assert names(tmp_path / "r" / "cam") == ["float64", "pages", "rgb16", "uint32"]
