"""Files of other people that once led to wrong numbers without a word: each is read by what it is, or told of."""

import json

import numpy as np
import pytest
from PIL import Image

from data import prepare
from data.datasets import get_dataset, read_names
from data.labelled import open_labelled
from data.segmentation import open_segmentation
from misc.errors import InputError
from misc.files.images import image_size, read_image, read_mask
from misc.files.labels import write_mask
from misc.files.listing import SUFFIXES
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
    voc,
    written,
)

OBJECT = disc()
RED = np.where(OBJECT[..., None], np.uint8([200, 0, 0]), np.uint8(0))
MASKS = {
    "palette": lambda path: write_mask(path, OBJECT.astype(np.uint8)),
    "two colours": lambda path: save(path, RED),
    "dark": lambda path: save(path, OBJECT * np.uint8(100)),
    "cut out": lambda path: save(path, np.dstack([picture(), OBJECT * np.uint8(255)])),
    "one channel of three": lambda path: save(path, np.dstack([OBJECT * np.uint8(255)] * 3)),
    "sixteen bits": lambda path: save(path, OBJECT * np.uint16(65535)),
    "bits": lambda path: save(path, OBJECT),
}


# 1: a file's encoding is assumed


@pytest.mark.parametrize("kind", MASKS)
def test_a_mask_is_what_it_is(kind, tmp_path):
    save(tmp_path / "p" / "a.png", OBJECT * np.uint8(255))
    MASKS[kind](tmp_path / "m" / "a.png")
    out = tmp_path / "out.json"
    assert score("--pred_dir", tmp_path / "p", "--mask_dir", tmp_path / "m", "--out", out) == 0
    assert written(out)["max_f"] == 1 and written(out)["mae"] == 0
    assert score("--pred_dir", tmp_path / "m", "--mask_dir", tmp_path / "p", "--out", out) == 0  # as a prediction, too
    assert written(out)["max_f"] == 1


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (OBJECT + np.uint8(3), "is no mask: its values are 3, 4"),
        (np.arange(48 * 64).reshape(48, 64).astype(np.uint8) // 2, "is no mask: its values are 0, 1, 2"),
        (picture(), "colours, and may mean several things"),
        (np.dstack([picture()[..., 0], OBJECT * np.uint8(255)]), "alpha channel: which of the two"),
    ],
)
def test_a_mask_that_may_mean_several_things_is_told(array, reason, tmp_path, capsys):
    save(tmp_path / "p" / "a.png", OBJECT * np.uint8(255))
    save(tmp_path / "m" / "a.png", array)
    assert score("--pred_dir", tmp_path / "p", "--mask_dir", tmp_path / "m") == 2
    assert reason in (error := one_error(capsys)) and str(tmp_path / "m" / "a.png") in error


def test_our_own_voc_export_is_a_mask_for_our_own_evaluator(tmp_path):
    save(tmp_path / "p" / "a.png", OBJECT * np.uint8(255))
    photos(tmp_path / "i", "a.jpg")
    argv = ("--pred_dir", tmp_path / "p", "--image_dir", tmp_path / "i", "--out_dir", tmp_path / "o")
    assert export_labels(*argv, "--format", "voc") == 0
    argv = ("--pred_dir", tmp_path / "p", "--mask_dir", tmp_path / "o" / "SegmentationClass")
    assert score(*argv, "--list", tmp_path / "o/ImageSets/Segmentation/train.txt", "--out", tmp_path / "s.json") == 0
    assert written(tmp_path / "s.json")["max_f"] == 1


# 2: nothing counted, yet it reports


def test_masks_of_0_and_255_are_background_and_void_for_classes(tmp_path, capsys):
    save(tmp_path / "p" / "a.png", OBJECT * np.uint8(0))
    save(tmp_path / "m" / "a.png", OBJECT * np.uint8(255))
    (tmp_path / "names.txt").write_text("cat\n")
    argv = ("--pred_dir", tmp_path / "p", "--mask_dir", tmp_path / "m", "--dataset", tmp_path / "names.txt")
    assert score_classes(*argv) == 2
    assert "holds a class, only 0 and 255, the void" in (error := one_error(capsys)) and "a.png for one" in error
    save(tmp_path / "m" / "a.png", OBJECT.astype(np.uint8))
    assert score_classes(*argv) == 0


def test_an_export_without_an_object_says_so(tmp_path, capsys):
    save(tmp_path / "p" / "a.png", OBJECT * np.uint8(100))
    photos(tmp_path / "i", "a.jpg")
    argv = (
        "--pred_dir",
        tmp_path / "p",
        "--image_dir",
        tmp_path / "i",
        "--out_dir",
        tmp_path / "o",
        "--format",
        "coco",
    )
    assert export_labels(*argv) == 0
    assert "none of its 1 labels holds an object" in capsys.readouterr().err
    assert export_labels(*argv, "--threshold", "0.3") == 0
    assert capsys.readouterr().err == ""


def test_masks_without_an_object_say_so(tmp_path, capsys):
    for folder in "pm":
        save(tmp_path / folder / "a.png", OBJECT * np.uint8(0))
    assert score("--pred_dir", tmp_path / "p", "--mask_dir", tmp_path / "m") == 0
    assert "none of 1 masks holds an object" in capsys.readouterr().err


@pytest.fixture
def classes(tmp_path):
    """Two classes of four pictures, and masks: 1 bird, 2 dog."""
    root = tmp_path / "set"
    for i in range(8):
        name = ("bird", "dog")[i % 2]
        save(root / "images" / name / f"x{i}.png", picture(i))
        save(root / "masks" / f"x{i}.png", disc() * np.uint8(1 + i % 2))
    return root


def test_masks_are_held_against_labels_before_a_training(classes, tmp_path, capsys):
    argv = ("--data_dir", classes, "--result_dir", tmp_path / "r")
    open_segmentation(classes)
    for path in (classes / "masks").iterdir():
        save(path, disc() * np.uint8(255))
    assert voc(*argv) == 2
    assert "holds 0 and 255 alone, which is background and void" in one_error(capsys)
    for i in range(8):
        save(classes / "masks" / f"x{i}.png", disc() * np.uint8(2 - i % 2))  # the other order
    assert voc(*argv) == 2
    error = one_error(capsys)
    assert "holds no pixel of label" in error and "put class_names.txt" in error and ".png" in error
    (classes / "class_names.txt").write_text("dog\nbird\n")
    open_segmentation(classes)
    assert not (tmp_path / "r" / "ckpt").exists()


# 3: class names are read as this program writes them


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfcat\ndog\n",
        b"\xef\xbb\xbfbackground\r\ncat\r\ndog",
        "background\ncat\ndog".encode("utf-16"),
        b"_background_\ncat\ndog",
        b"__background__\ncat\ndog",
        b"Background\ncat\ndog",
        b"__ignore__\n_background_\ncat\ndog\n",
        b"0 background\n1 cat\n2 dog",
        b"1: cat\n2: dog",
        b"# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\ndog:0,128,0::\n",
    ],
)
def test_class_files_of_other_programs(text, tmp_path, capsys):
    (tmp_path / "names.txt").write_bytes(text)
    for folder in "pm":
        save(tmp_path / folder / "a.png", disc() * np.uint8(2))
    argv = ("--pred_dir", tmp_path / "p", "--mask_dir", tmp_path / "m", "--dataset", tmp_path / "names.txt")
    assert score_classes(*argv, "--out", tmp_path / "o.json") == 0
    assert written(tmp_path / "o.json")["iou"] == {"background": 1.0, "cat": None, "dog": 1.0}


@pytest.mark.parametrize("text", ["cat\nbackground\ndog", "cat,dog", "background"])
def test_class_files_that_cannot_be_meant(text, tmp_path):
    (tmp_path / "names.txt").write_text(text)
    with pytest.raises(InputError, match=r"names\.txt"):
        get_dataset(str(tmp_path / "names.txt"))


def test_a_byte_order_mark_breaks_no_list(tmp_path):
    for folder in "pm":
        save(tmp_path / folder / "a.png", OBJECT * np.uint8(255))
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa\r\n")
    assert score("--pred_dir", tmp_path / "p", "--mask_dir", tmp_path / "m", "--list", tmp_path / "list.txt") == 0
    (tmp_path / "boxes.csv").write_bytes(b"\xef\xbb\xbffile;x0;y0;x1;y1\r\na.jpg;12;8;52;40\r\n")
    assert score("--pred_dir", tmp_path / "p", "--boxes", tmp_path / "boxes.csv") == 0


# 4: names are cut by untold rules


def test_names_with_dots_and_blanks_stay_whole(classes, tmp_path):
    train, val = ["IMG_0", "my photo 1"], ["IMG_0.crop", "x_jpg.rf.0a1b2c"]
    for i, name in enumerate([*train, *val]):
        save(tmp_path / "set" / "images" / ("bird", "dog")[i % 2] / f"{name}.jpg", picture(i))
    (classes / "train.txt").write_text("IMG_0\nmy photo 1.jpg\n")
    (classes / "val.txt").write_text("IMG_0.crop\nx_jpg.rf.0a1b2c.jpg\n")
    assert sorted(open_segmentation(classes, None, "train").images.names) == train
    assert sorted(open_segmentation(classes, None, "val").images.names) == val


def test_lists_of_voc_and_of_augmented_voc_and_ours(tmp_path):
    (tmp_path / "list.txt").write_text(
        "2007_000032  1\n2007_000033 -1\n/JPEGImages/2007_1.jpg /Masks/2007_1.png\n./a b.JPG\nsub\\c.d.png\n"
    )
    assert read_names(tmp_path / "list.txt") == ["2007_000032", "2007_000033", "2007_1", "a b", "c.d"]
    assert read_names(tmp_path / "list.txt", known={"x/c.d", "a b"})[3:] == ["a b", "x/c.d"]


def test_a_list_that_we_wrote_is_read(tmp_path):
    for name in ("a b", "x.y.z"):
        photos(tmp_path / "i", f"{name}.jpg")
        save(tmp_path / "p" / f"{name}.png", OBJECT * np.uint8(255))
    argv = ("--pred_dir", tmp_path / "p", "--image_dir", tmp_path / "i", "--out_dir", tmp_path / "o", "--format", "voc")
    assert export_labels(*argv) == 0
    lists = tmp_path / "o/ImageSets/Segmentation/train.txt"
    argv = ("--pred_dir", tmp_path / "p", "--mask_dir", tmp_path / "o/SegmentationClass", "--list", lists)
    assert score(*argv, "--out", tmp_path / "s.json") == 0 and written(tmp_path / "s.json")["n"] == 2


# 5: class order is derived twice


def test_folders_that_are_numbers_are_in_their_order(tmp_path):
    for k in range(1, 12):
        save(tmp_path / "set" / str(k) / f"{k}.png", picture(k))
        save(tmp_path / "masks" / f"{k}.png", disc() * np.uint8(k))
    assert open_labelled(tmp_path / "set").class_names == tuple(map(str, range(1, 12)))
    (tmp_path / "set").rename(tmp_path / "images")
    data = open_segmentation(tmp_path)
    assert data.images.class_names == tuple(map(str, range(1, 12)))


def coco_of_ones_own(root):
    """Categories whose numbers and names are in two orders; a square of each."""
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        images, annotations = [], []
        for i in range(4):
            save(root / "images" / f"{split}{i}.jpg", picture(i))
            images.append({"id": i, "file_name": f"{split}{i}.jpg", "height": 48, "width": 64})
            shape = [10, 10, 40, 10, 40, 40, 10, 40]
            annotations.append(
                {"id": i, "image_id": i, "category_id": 1 + i % 2, "segmentation": [shape], "iscrowd": 0}
            )
        categories = [{"id": 1, "name": "zebu"}, {"id": 2, "name": "ant"}]
        held = {"images": images, "annotations": annotations, "categories": categories}
        (root / f"annotations/instances_{split}2014.json").write_text(json.dumps(held))
    return root


def test_prepared_sets_keep_one_order_for_every_command(tmp_path, capsys):
    root = coco_of_ones_own(tmp_path / "coco")
    assert prepare.main(["coco14", "--root", str(root), "--quiet"]) == 0
    assert (root / "class_names.txt").read_text() == "zebu\nant\n"
    for split in ("train", "val"):
        assert open_segmentation(root, None, split).spec.class_names == ("zebu", "ant")
    argv = ("--pred_dir", root / "SegmentationClass", "--mask_dir", root / "SegmentationClass")
    assert score_classes(*argv, "--dataset", root / "class_names.txt", "--out", tmp_path / "o.json") == 0
    assert written(tmp_path / "o.json")["miou"] == 1
    (root / "class_names.txt").write_text("ant\nzebu\n")
    assert prepare.main(["coco14", "--root", str(root), "--quiet"]) == 2
    assert "class_names.txt there says ant" in capsys.readouterr().err


def test_parts_have_the_classes_of_the_set(tmp_path):
    for split, names_of in (("train", "abc"), ("val", "bc")):
        rows = [f"{split}{name}.jpg,{name}\n" for name in names_of]
        for name in names_of:
            save(tmp_path / f"{split}{name}.jpg", picture())
            save(tmp_path / "masks" / f"{split}{name}.png", disc() * np.uint8("abc".index(name) + 1))
        (tmp_path / f"labels_{split}.csv").write_text("file,label\n" + "".join(rows))
    assert [open_segmentation(tmp_path, None, s).spec.class_names for s in ("train", "val")] == [("a", "b", "c")] * 2


def voc_tree(root, image, *objects):
    save(root / "JPEGImages" / f"{image}.jpg", picture())
    (root / "Annotations").mkdir(exist_ok=True)
    tags = "".join(f"<object><name>{name}</name></object>" for name in objects)
    (root / "Annotations" / f"{image}.xml").write_text(f"<annotation>{tags}</annotation>")


def test_a_tree_of_ones_own_has_its_own_labels_and_vocs_has_vocs(tmp_path):
    voc_tree(tmp_path / "own", "garden1", "cat")
    voc_tree(tmp_path / "own", "garden2", "dog")
    voc_tree(tmp_path / "voc", "2007_000001", "cat")
    assert open_labelled(tmp_path / "own").class_names == ("cat", "dog")
    assert len(open_labelled(tmp_path / "voc").class_names) == 20


@pytest.mark.parametrize("name", ["background", "_background_", "Background"])
def test_a_folder_of_background_has_images_without_a_class(name, classes):
    save(classes / "images" / name / "empty.png", picture())
    data = open_segmentation(classes).images
    assert data.class_names == ("bird", "dog") and not data.labels[data.names.index("empty")].any()


# 7: empty shapes


@pytest.mark.parametrize("shape", [[], [[]], [[10, 10, 40, 40]]])
def test_an_annotation_without_a_shape_is_listed(shape, tmp_path, capsys):
    root = coco_of_ones_own(tmp_path / "coco")
    path = root / "annotations/instances_train2014.json"
    held = json.loads(path.read_text())
    held["annotations"][0]["segmentation"] = shape
    path.write_text(json.dumps(held))
    assert prepare.main(["coco14", "--root", str(root), "--quiet"]) == 1
    assert "annotation 0 has no usable segmentation" in (root / "prepare_failed.csv").read_text()
    assert len(names(root / "SegmentationClass")) == 7


# 8: a training that cannot learn


def test_one_class_alone_teaches_nothing(tmp_path, capsys):
    photos(tmp_path / "set" / "cat", "a.png", "b.png")
    train = ("--train_cam_pass", "--make_cam_pass", "False", *MAPS_ALONE, "--cls_dataset_dir", tmp_path / "set")
    assert sample(*train, "--result_dir", tmp_path / "r") == 2
    assert "of the one class cat, which teaches nothing" in one_error(capsys)
    assert voc("--data_dir", tmp_path / "set", "--result_dir", tmp_path / "v") == 2
    assert "teaches nothing" in one_error(capsys)


def labels_of(folder, text):
    (folder / "labels.csv").write_text(text)
    data = open_labelled(folder)
    return data.class_names, data.labels.tolist()


@pytest.mark.parametrize(
    "text",
    [
        "file,label\na.png,cat;dog\nb.png,dog\n",
        "file,label\na.png,cat|dog\nb.png,dog\n",
        "file,label\na.png,\"['cat', 'dog']\"\nb.png,\"['dog']\"\n",
        "file;label\na.png;cat,dog\nb.png;dog\n".replace("cat,dog", "cat|dog"),
        "file\tlabel\na.png\tcat\tdog\nb.png\tdog\n",
        "file,cat,dog\na.png,1,1\nb.png,0,1\n",
        "filename,label\na.png,cat;dog\nb.png,dog\n",
    ],
)
def test_labels_as_people_write_them(text, tmp_path):
    photos(tmp_path, "a.png", "b.png")
    assert labels_of(tmp_path, text) == (("cat", "dog"), [[1, 1], [0, 1]])


@pytest.mark.parametrize("cell", ['"cat, dog"', "nan", "None"])
def test_cells_that_may_mean_several_things_stop_it(cell, tmp_path, capsys):
    photos(tmp_path / "set", "a.png", "b.png")
    (tmp_path / "set" / "labels.csv").write_text(f"file,label\na.png,{cell}\nb.png,dog\n")
    assert voc("--data_dir", tmp_path / "set", "--result_dir", tmp_path / "r") == 2
    assert "row 2" in (error := one_error(capsys)) and "labels.csv" in error
    (tmp_path / "set" / "class_names.txt").write_text(cell.strip('"') + "\ndog\n")
    assert open_labelled(tmp_path / "set").labels.tolist() == [[1, 0], [0, 1]]


def test_weights_that_are_not_finite_are_refused(tmp_path, capsys):
    import torch

    import net
    from net.weights import save_checkpoint

    network = net.build("efficientnet_lite0", 3)
    with torch.no_grad():
        network.classifier.weight[0, 0] = float("nan")
    save_checkpoint(tmp_path / "w.pth", network)
    photos(tmp_path / "i", "a.png")
    assert sample(tmp_path / "i", "--result_dir", tmp_path / "r", "--cam_weights_dir", tmp_path / "w.pth") == 2
    assert "classifier.weight holds numbers that are not finite" in one_error(capsys)


# 9: pictures passed over


def test_every_kind_of_picture_is_taken_and_the_rest_is_counted(tmp_path, capsys):
    root = tmp_path / "set"
    kinds = {".jfif": "JPEG", ".jpe": "JPEG", ".gif": "GIF", ".ppm": "PPM", ".jp2": "JPEG2000", ".mpo": "MPO"}
    kinds |= {".avif": "AVIF"} if ".avif" in SUFFIXES else {}
    for suffix, kind in kinds.items():
        save(root / f"{suffix[1:]}{suffix}", picture(), format=kind)
    for name in ("notes.txt", "more.txt", "raw.cr2", ".hidden.png"):
        (root / name).write_bytes(b"x")
    assert sample(root, "--result_dir", tmp_path / "r", *MAPS_ALONE) == 0
    assert names(tmp_path / "r" / "cam") == sorted(suffix[1:] for suffix in kinds)
    line = capsys.readouterr().out.splitlines()[0]
    assert line == f"images: {len(kinds)} in {root}, a folder of pictures; passed over: 2 .txt, 1 .cr2, 1 hidden"


def test_heic_is_taken_where_its_reader_is_installed(tmp_path):
    pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    save(tmp_path / "set" / "a.heic", picture(), format="HEIF")
    assert sample(tmp_path / "set", "--result_dir", tmp_path / "r", *MAPS_ALONE) == 0
    assert names(tmp_path / "r" / "cam") == ["a"]


def test_a_folder_called_images_hides_no_others(tmp_path, capsys):
    photos(tmp_path / "set", "images/a.png", "images/sub/b.png", "c.png")
    assert sample(tmp_path / "set", "--result_dir", tmp_path / "r", *MAPS_ALONE) == 0
    assert names(tmp_path / "r" / "cam") == ["c", "images/a", "images/sub/b"]
    save(tmp_path / "set" / "masks" / "a.png", OBJECT * np.uint8(255))
    assert sample(tmp_path / "set", "--result_dir", tmp_path / "s", *MAPS_ALONE) == 0
    assert names(tmp_path / "s" / "cam") == ["a", "sub/b"]
    assert "layout images/, masks/, masks of 1; passed over: 1 outside images/" in capsys.readouterr().out
    photos(tmp_path / "bare", "images/a.png")
    assert sample(tmp_path / "bare", "--result_dir", tmp_path / "t", *MAPS_ALONE) == 0
    assert "layout images/, no masks/\n" in capsys.readouterr().out


def test_masks_are_found_by_other_names(classes, tmp_path, capsys):
    renamed = ("x0_mask.png", "x1.PNG", "x2.bmp", "x3-gt.png", "x4.tif", "x5_seg.PNG", "x6.png", "x7_label.png")
    for i, name in enumerate(renamed):
        label = np.asarray(Image.open(path := classes / "masks" / f"x{i}.png"))
        path.unlink()
        save(classes / "masks" / name, label)
    assert len(open_segmentation(classes).masks) == 8
    save(classes / "masks" / "x0.png", label)
    save(classes / "masks" / "x6.jpg", label)
    with pytest.raises(InputError, match=r"x6\.jpg and .*x6\.png have one name"):
        open_segmentation(classes)


def test_a_run_says_how_many_masks_it_found(classes, tmp_path, capsys):
    (classes / "masks" / "x0.png").unlink()
    argv = (
        "--data_dir",
        classes,
        "--result_dir",
        tmp_path / "r",
        "--seam_num_epoches",
        "0.1",
        "--seam_crop_size",
        "32",
    )
    argv += ("--seam_long_side", "32", "48", "--seam_batch_size", "2", "--tensorboard", "False")
    assert voc(*argv) == 0
    assert "train: 8 images" in (out := capsys.readouterr().out) and "masks of 7, layout folders" in out
    assert (tmp_path / "r" / "class_names.txt").read_text() == "bird\ndog\n"


# 10: EXIF-turned masks


def test_masks_are_of_the_picture_as_viewers_show_it(tmp_path, capsys):
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in ("tif", "jpg"):
        for i, name in enumerate(("cat", "dog")):
            path = save(tmp_path / suffix / "images" / name / f"{name}.{suffix}", picture(), exif=exif)
            assert image_size(path) == read_image(path).shape[:2] == (64, 48)
            save(tmp_path / suffix / "masks" / f"{name}.png", disc((64, 48)) * np.uint8(1 + i))
        assert len(open_segmentation(tmp_path / suffix).masks) == 2
        save(tmp_path / suffix / "masks" / "cat.png", disc() * np.uint8(1))  # as stored
        assert voc("--data_dir", tmp_path / suffix, "--result_dir", tmp_path / "r") == 2
        assert "if EXIF turns the image, turn the mask" in one_error(capsys)
    path = save(tmp_path / "m.png", disc() * np.uint8(255), exif=exif)
    assert read_mask(path).shape == (64, 48)  # a mask has an orientation of its own


def test_a_mask_as_stored_is_listed_by_the_evaluator(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "set" / "images" / "a.jpg", picture(), exif=exif)
    save(tmp_path / "set" / "masks" / "a.png", disc() * np.uint8(255))
    assert sample(tmp_path / "set", "--result_dir", tmp_path / "r", "--make_label_pass", "False") == 1
    assert "(width, height)" in failed(tmp_path / "r")["eval", "a.png"]
