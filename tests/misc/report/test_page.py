"""The data of the page, its thumbnails, and that no name or number can break it. tests/step has it in a browser."""

import html
import json
import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data.datasets import get_dataset
from misc.files.store import write_json
from misc.report import page as report
from misc.report.overview import cam_overlay
from misc.report.page import Column, Record
from misc.report.score_files import write_curves
from pgt.metrics.saliency import SaliencyMetrics

VOC = get_dataset("voc12")
COLUMNS = [Column("cam", "CAM", "heat", Path("cam")), Column("cam_pamr", "pixel label", "gray", Path("cam_pamr"))]
RECORD = Record((400, 300), (192, 144), {"cam.mae": 0.25, "disagreement": 0.5}, [3], {"2": "binary"})


def data_of(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


# ------------------------------------------------------------------------------------------------------- thumbnails
def test_strip_lays_the_pictures_side_by_side(photographs):
    photo = photographs.cat
    gray = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    picture, (w, h) = report.strip([photo, gray, None, gray], ["photo", "heat", "gray", "gray"])
    assert (w, h) == (192, round(192 * photo.shape[0] / photo.shape[1])) and picture.shape == (h, 4 * w, 3)
    small, small_gray = (cv2.resize(a, (w, h), interpolation=cv2.INTER_AREA) for a in (photo, gray))
    tiles = np.split(picture, 4, axis=1)
    np.testing.assert_array_equal(tiles[0], small)
    np.testing.assert_array_equal(tiles[1], cam_overlay(small, small_gray))
    assert (tiles[2] == 128).all()
    np.testing.assert_array_equal(tiles[3], np.repeat(small_gray[..., None], 3, axis=2))


@pytest.mark.parametrize("size", [(1, 1), (1, 1000), (1000, 1), (30, 20)])
def test_strip_keeps_small_pictures_and_thin_ones(size):
    picture, (w, h) = report.strip([np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)], ["photo", "gray"])
    assert w >= 1 and h >= 1 and max(w, h) == min(192, max(size)) and picture.shape == (h, 2 * w, 3)


def test_a_thumbnail_holds_its_record(tmp_path, photographs):
    path = tmp_path / "sub" / "a.webp"
    assert report.read_record(path, "x") is None
    report.write_strip(path, photographs.coffee, RECORD, "x")
    read = report.read_record(path, "x")
    assert (tuple(read.size), tuple(read.tile)) == (RECORD.size, RECORD.tile)
    assert (read.values, read.classes, read.filters) == (RECORD.values, RECORD.classes, RECORD.filters)
    assert report.read_record(path, "y") is None
    assert Image.open(path).size == photographs.coffee.shape[1::-1]
    first = path.read_bytes()
    report.write_strip(path, photographs.coffee, RECORD, "x")
    assert path.read_bytes() == first and [p.name for p in path.parent.iterdir()] == ["a.webp"]
    path.write_bytes(first[: len(first) // 2])
    assert report.read_record(path, "x") is None
    Image.fromarray(photographs.coffee).save(path, format="WEBP")  # of another program
    assert report.read_record(path, "x") is None


def test_column_style():
    with pytest.raises(ValueError, match=r"style of column a must be one of photo, heat, .*'blue'"):
        Column("a", "A", "blue", Path())


# -------------------------------------------------------------------------------------------------------- addresses
@pytest.mark.parametrize(
    ("path", "start", "expected"),
    [
        ("r/cam/a.png", "r", "cam/a.png"),
        ("set/images/a b.jpg", "r", "../set/images/a%20b.jpg"),
        ("r/ä?#%.png", "r", "%C3%A4%3F%23%25.png"),
        ("r/\"'<&:.png", "r", "%22%27%3C%26%3A.png"),
        ("r", "r", "."),
    ],
)
def test_url(tmp_path, path, start, expected):
    assert report.url(tmp_path / path, tmp_path / start) == expected


def test_url_of_a_name_that_is_no_text(tmp_path):
    assert report.url(tmp_path / "\udcff.png", tmp_path) == "%FF.png"


# ----------------------------------------------------------------------------------------------------------- scores
def test_measures_are_those_that_a_record_has():
    records = [Record((1, 1), (1, 1), {"cam_pamr.share": 0.1}), RECORD]
    found = [(m["key"], m["name"], m["of"], m["better"]) for m in report.measures(COLUMNS, records)]
    assert found == [
        ("disagreement", "label disagreement", None, None),
        ("cam.mae", "MAE", "CAM", "low"),
        ("cam_pamr.share", "foreground share", "pixel label", None),
    ]


def test_mean_curves_are_those_of_the_metrics(photographs, tmp_path):
    metrics = SaliencyMetrics()
    for photo in vars(photographs).values():
        gray = cv2.resize(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), (90, 60))
        metrics.step(cv2.GaussianBlur(gray, (0, 0), 3), gray > 120)
    results = metrics.get_results()
    write_curves(tmp_path, "cam", results)
    write_curves(tmp_path, "cam_pamr", {})  # of no image
    (mean,) = report.mean_curves(tmp_path, COLUMNS)
    assert (mean["kind"], mean["title"]) == ("cam", "CAM")
    for key in ("precision", "recall", "f"):
        np.testing.assert_allclose(mean[key], results[key][::3], atol=1e-4)


def test_tables_of_saliency():
    metrics = {"cam": {"n": 2, "mae": 0.2, "max_f": 0.5}, "cam_pamr": {"n": 2, "mae": 0.1}, "empty": {"n": 0}}
    tables = report.score_parts(metrics, {"cam": "CAM", "cam_pamr": "pixel label"})["tables"]
    assert [c["title"] for c in tables[0]["columns"]] == ["images", "MAE", "max F"]
    assert [c["better"] for c in tables[0]["columns"]] == [None, "low", "high"]
    assert [(row["title"], row["kind"], row["values"]) for row in tables[0]["rows"]] == [
        ("CAM", "cam", [2, 0.2, 0.5]),
        ("pixel label", "cam_pamr", [2, 0.1, None]),
    ]
    assert [row["title"] for row in tables[1]["rows"]] == ["empty"]


def test_parts_of_segmentation():
    metrics = {
        "sem_seg": {"val": {"n": 9, "miou": 0.5, "iou": {"cat": None, "dog": 0.7}, "contour_f": 0.3}},
        "cam": {"train": {"miou": 0.5, "iou": {"cat": 0.3, "dog": 0.2}, "sweep": [0.4, 0.5], "best_threshold": 0.01}},
        "other": {"val": {"miou": 0.6, "sweep": [0.1] * 60}},
    }
    parts = report.score_parts(metrics, {"cam": "CAM", "sem_seg": "label"})
    (table,) = parts["tables"]
    assert [c["key"] for c in table["columns"]] == ["n", "miou", "contour_f", "best_threshold"]
    assert [(row["title"], row["kind"], row["values"]) for row in table["rows"]] == [
        ("CAM · train", "cam", [None, 0.5, None, 0.01]),
        ("label · val", "sem_seg", [9, 0.5, 0.3, None]),
        ("other · val", "other", [None, 0.6, None, None]),
    ]
    assert [(row["split"], row["part"]) for row in table["rows"]] == [("train", 0), ("val", 1), ("val", 1)]
    assert [(s["title"], s["x"][-1], len(s["y"])) for s in parts["sweeps"]] == [
        ("CAM · train", 0.01, 2),
        ("other · val", 0.59, 60),
    ]
    (iou,) = parts["bars"]
    assert iou["title"].startswith("IoU") and [k["kind"] for k in iou["kinds"]] == ["cam", "sem_seg"]
    assert iou["rows"] == [{"name": "cat", "values": [0.3, None]}, {"name": "dog", "values": [0.2, 0.7]}]


def test_scores_are_told_in_words():
    metrics = {"cam": {"train": {"contour_f_at_0.25": 0.1, "miou_at_0.5": 0.2, "own_score": 0.3}}}
    (table,) = report.score_parts(metrics, {})["tables"]
    assert [(c["title"], c["better"]) for c in table["columns"]] == [
        ("contour F at .25", "high"),
        ("mIoU at .5", "high"),
        ("own score", "high"),
    ]


@pytest.mark.parametrize(
    "metrics", [{}, {"cam": None}, {"cam": {"mae": math.nan, "sweep": "no", "iou": []}}, {"cam": {"sweep": [None]}}]
)
def test_parts_of_what_is_no_score(metrics):
    assert report.score_parts(metrics, {}) == {"tables": [], "sweeps": [], "bars": []}


def test_training_curve(tmp_path):
    path = tmp_path / "train.csv"
    assert report.training_curve(path) is None
    path.write_text("step,loss,lr\n0,2.0,0.1\n1,nan,0.1\n2,1.0,0.1\n3,0.")
    assert report.training_curve(path) == {"x": [0, 2, 3], "y": [2, 1, 0]}
    path.write_text("step,loss\n" + "".join(f"{i},{i % 2}\n" for i in range(4000)))
    curve = report.training_curve(path)
    assert len(curve["x"]) == len(curve["y"]) == 400 and set(curve["y"]) == {0.5} and curve["x"][0] == 4.5
    path.write_text("epoch,loss\n0,1\n1,2\n")
    assert report.training_curve(path) is None


def test_each_stage_has_its_training_curve(tmp_path):
    for name in ("train", "train_seam", "train_aff", "train_my_own", "trained_not"):
        (tmp_path / f"{name}.csv").write_text("step,loss\n0,2\n1,1\n")
    (tmp_path / "train_seg.csv").write_text("step,loss\n")
    titles = [curve["title"] for curve in report.training_curves(tmp_path)]
    of = ["", " of the CAM network", " of AffinityNet", " of my own"]  # in the order of the stages
    assert titles == [f"Training loss{what}" for what in of]


def test_settings(tmp_path):
    titles = {"cam": "CAM", "cam_slic": "superpixel label"}
    assert report.settings(tmp_path, titles) == {}
    held = {"made": "2026", "sha256": "ab", "changed": {"scales": {"default": [1.0], "is": [1.0, 2.0]}}}
    held |= {"settings": {"scales": [1.0, 2.0], "mask_dir": None, "seed": 0}, "versions": {"torch": "2.4"}}
    write_json(tmp_path / "settings" / "cam.json", held)
    write_json(tmp_path / "settings" / "cam_slic.json", {"settings": {"slic_crf": True}, "changed": {"a": 1}})
    write_json(tmp_path / "settings" / "train_seam.json", {"settings": {"a": 1}})
    (tmp_path / "settings" / "odd.json").write_text("[")
    assert list(report.settings(tmp_path, titles).items()) == [
        ("CAM: other than the default", [("scales", "1.0 2.0, not 1.0")]),
        ("training of the CAM network: all settings", [("a", "1")]),
        (
            "CAM: all settings",
            [("made", "2026"), ("sha256", "ab"), ("scales", "1.0 2.0"), ("mask_dir", "none"), ("seed", "0")],
        ),
        ("superpixel label: all settings", [("slic_crf", "True")]),
        ("Versions", [("torch", "2.4")]),
    ]


def test_class_legend():
    records = [Record((1, 1), (1, 1), classes=ids) for ids in ([1, 15], [15], [])]
    assert report.class_legend(records, VOC) == [
        {"id": 1, "name": "aeroplane", "color": "#800000", "count": 1},
        {"id": 15, "name": "person", "color": "#c08080", "count": 2},
    ]


def test_heat_filter_is_the_colour_map_of_the_overlays():
    tables = report.filters()["heat"]["tables"]
    gray = np.arange(256, dtype=np.uint8)
    wanted = cv2.applyColorMap(gray.reshape(16, 16), cv2.COLORMAP_TURBO).reshape(256, 3)[:, ::-1]
    assert [len(table) for table in tables] == [52, 52, 52]
    for k in range(3):  # as a browser interpolates
        shown = np.interp(gray, np.linspace(0, 255, len(tables[k])), tables[k])
        assert np.abs(shown - wanted[:, k]).max() <= 3
    assert "palette" not in report.filters()
    assert report.filters(VOC.palette)["palette"]["tables"][0][15] == 192


# ------------------------------------------------------------------------------------------------------------- page
NASTY = ["</script><script>alert(1)</script>", "<!--", "{{js}}", "\\u003c", "\"'&", "\u2028", "\udcff", "日本語 ü"]


@pytest.mark.parametrize("name", NASTY)
def test_any_text_stands_in_the_page_as_it_is(name):
    text = report.page(name, {"name": name})
    text.encode("utf-8")
    assert data_of(text) == {"name": name}
    title = name.encode("utf-8", "replace").decode()
    assert html.unescape(re.search("<title>(.*?)</title>", text, re.S)[1]) == title
    plain = report.page("", {})
    assert [text.count(s) for s in ("<script", "</script")] == [plain.count(s) for s in ("<script", "</script")]


def test_numbers_that_json_lacks_are_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        report.page("", {"mae": math.nan})


def test_the_page_needs_no_network_and_no_other_file():
    text = report.page("a", {})
    assert "{{" not in text
    addresses = re.findall(r"https?://[^\s\"'<>)]+", text)
    assert set(addresses) == {"http://www.w3.org/2000/svg"}  # a name, which nothing loads
    assert not re.search(r"fetch\(|XMLHttpRequest|@import|<link rel=\"stylesheet|innerHTML", text)
