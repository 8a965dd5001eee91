"""The report of real pictures, and the page as a person uses it, in a headless Chromium where one is installed."""

import io
import json
import os
import re
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import cv2
import numpy as np
import pytest
from PIL import Image

import run_sample
from data.datasets import get_dataset
from data.saliency import ImageFolder
from misc.files.store import read_json, write_json, write_text
from misc.report.kinds import SALIENCY
from misc.report.page import Column, Record, page
from misc.report.score_files import read_curves, write_scores
from misc.report.seg_scores import IMAGE_COLUMNS, score_folder
from misc.run.failures import Failures
from pgt.metrics.saliency import saliency_scores
from pgt.metrics.segmentation import Confusion
from step import eval as step_eval
from step import report
from step.report import Entry, Layer, advice, assess, disagreement, page_data, read_doubts, sample_of

VOC = get_dataset("voc12")
NASTY = ["a b", "ü 日本", "100%25 #1", "q'uote&", "<img src=x onerror=alert(1)>", 'd"q?']
NAMES = [f"{i:03}" for i in range(62)] + (NASTY[:4] if os.name == "nt" else NASTY)
WIDTH, HEIGHT = 64, 48


def crops(photographs):
    """A picture (HEIGHT, WIDTH, 3) for each of NAMES, cut from the photographs."""
    photos = [cv2.resize(p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for p in vars(photographs).values()]
    for i, name in enumerate(NAMES):
        photo = photos[i % 4]
        y, x = (13 * i) % (photo.shape[0] - HEIGHT), (29 * i) % (photo.shape[1] - WIDTH)
        yield name, np.ascontiguousarray(photo[y : y + HEIGHT, x : x + WIDTH])


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def arguments(root, **others):
    flags = {"sal_dataset_dir": root / "set", "result_dir": root / "result", "num_workers": 1, "quiet": True}
    args = run_sample.TABLE.resolve(flags)
    vars(args).update({"cam_slic_out_dir": None, "images_flag": "", **others})
    return args


def run(args):
    failures = Failures(args.result_dir / "failed.csv")
    report.run(args, failures)
    return failures


@pytest.fixture(scope="module")
def built(tmp_path_factory, photographs):
    """A data set with masks of all but the first three images, maps, labels, scores and the report of them."""
    root = tmp_path_factory.mktemp("a run")
    for name, photo in crops(photographs):
        gray = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
        save(root / "set" / "images" / f"{name}.png", photo)
        save(root / "result" / "cam" / f"{name}.png", cv2.GaussianBlur(gray, (0, 0), 5))
        save(root / "result" / "cam_pamr" / f"{name}.png", gray)
        save(root / "result" / "cam_slic" / f"{name}.png", np.where(gray > gray.mean(), 255, 0).astype(np.uint8))
        if name not in NAMES[:3]:
            save(root / "set" / "masks" / f"{name}.png", (gray > 100).astype(np.uint8) * (1 if name == "009" else 255))
    args = arguments(root)
    step_eval.run(args, Failures(root / "failed.csv"))
    held = {"settings": {"cam_scales": [1.0, 0.5]}, "changed": {"cam_scales": {"default": [1.0], "is": [1.0, 0.5]}}}
    write_json(root / "result" / "settings" / "cam.json", {**held, "versions": {"python": "3"}})
    assert NAMES[3] not in run(args)
    return root


def page_of(folder):
    """The data of the page."""
    text = (folder / "report.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


def values_of(folder):
    """name -> measure -> value, of those that an image has."""
    data = page_of(folder)
    keys = [measure["key"] for measure in data["measures"]]
    held = {image["name"]: zip(keys, image["values"], strict=True) for image in data["images"]}
    return {name: {key: value for key, value in pairs if value is not None} for name, pairs in held.items()}


# -------------------------------------------------------------------------------------------------- without a browser
def test_images_have_the_scores_that_eval_found(built):
    found, data = values_of(built / "result"), page_of(built / "result")
    assert sorted(found) == sorted(NAMES) and data["unscored"] == 0
    kinds = [kind.key for kind in SALIENCY if (built / "result" / kind.key).is_dir()]
    for name in ("004", "a b"):
        read = [np.asarray(Image.open(built / "result" / kind / f"{name}.png")) for kind in kinds]
        mask = np.asarray(Image.open(built / "set/masks" / f"{name}.png")) > 128
        for kind, gray in zip(kinds, read, strict=True):
            scores = saliency_scores(gray, mask)
            for key in ("mae", "max_f", "s_measure"):
                assert found[name][f"{kind}.{key}"] == pytest.approx(getattr(scores, key), abs=1e-4)
            assert found[name][f"{kind}.share"] == pytest.approx(gray.mean() / 255, abs=1e-4)
        soft, hard = read[1].astype(float), read[2].astype(float)
        wanted = 1 - np.minimum(soft, hard).sum() / np.maximum(soft, hard).sum()
        assert found[name]["disagreement"] == pytest.approx(wanted, abs=1e-4)
    assert set(found["001"]) == {"disagreement", "cam.share", "cam_pamr.share", "cam_slic.share"}
    filters = {image["name"]: image.get("filters") for image in data["images"]}
    assert filters["009"] == {"4": "binary"} and filters["004"] is None
    assert found["009"]["cam_slic.max_f"] > 0.6  # a mask of 0 and 1 is a mask
    curves = read_curves(built / "result", "cam_slic")["f"]
    assert data["curves"][2]["f"] == pytest.approx(curves[::3], abs=1e-4) and len(curves) == 256


def test_images_of_other_labels_or_masks_than_were_scored_have_no_scores(built, tmp_path, capsys):
    root = shutil.copytree(built, tmp_path / "again")
    save(root / "result/cam_pamr/004.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    save(root / "set/masks/005.png", np.full((HEIGHT, WIDTH), 255, np.uint8))
    run(arguments(root))
    assert "report: 2 image(s) have labels or masks newer than their scores: run eval\n" in capsys.readouterr().out
    before, after = values_of(built / "result"), values_of(root / "result")
    assert page_of(root / "result")["unscored"] == 2
    scored = {name: {key for key in after[name] if "share" not in key} - {"disagreement"} for name in after}
    assert scored["005"] == set() and {key.split(".")[0] for key in scored["004"]} == {"cam", "cam_slic"}
    assert after["006"] == before["006"]
    step_eval.run(arguments(root), Failures(root / "failed.csv"))
    run(arguments(root))
    assert "run eval" not in capsys.readouterr().out and "cam.mae" in values_of(root / "result")["005"]
    shutil.rmtree(root / "result/scores")
    run(arguments(root))
    assert f"report: {len(NAMES) - 3} image(s) have" in capsys.readouterr().out
    assert page_of(root / "result")["curves"] == []


def test_a_second_run_keeps_all_and_a_changed_file_is_looked_at_again(built, tmp_path):
    root = shutil.copytree(built, tmp_path / "again")
    args = arguments(root)
    run(args)
    html = (root / "result/report.html").read_bytes()
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in (root / "result/report_files").iterdir()}
    run(args)
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in before} == before
    assert (root / "result/report.html").read_bytes() == html
    for kind in ("cam", "cam_pamr", "cam_slic"):  # labels must be younger than their maps
        save(root / "result" / kind / "005.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    run(args)
    assert [p.stem for p in before if p.read_bytes() != before[p][1]] == ["005"]
    assert (root / "result/report.html").read_bytes() != html
    run(arguments(root, overwrite=True))
    assert all(p.stat().st_mtime_ns != before[p][0] for p in before)


def test_what_cannot_be_read_is_told_and_the_rest_is_shown(built, tmp_path, capsys):
    root = shutil.copytree(built, tmp_path / "again")
    for path in ("set/images/005.png", "result/cam_pamr/006.png", "result/cam_slic/007.png"):
        (root / path).write_bytes((root / path).read_bytes()[:60])
    (root / "result/cam_slic/007.png").unlink()
    failures = run(arguments(root, limit=10, overwrite=True))
    assert [root / "set/images" / f"{n}.png" in failures for n in ("004", "005", "006", "007")] == [
        *(False, True, True, False)
    ]
    assert "8 images" in capsys.readouterr().out
    assert "005" in (root / "result/failed.csv").read_text()


def test_labels_of_other_maps_are_left_out(built, tmp_path):
    root = shutil.copytree(built, tmp_path / "again")
    os.utime(root / "result/cam/004.png", (4e9, 4e9))
    run(arguments(root))
    html = (root / "result/report.html").read_text(encoding="utf-8")
    assert '"key":"cam"' in html and '"key":"cam_pamr"' not in html


def test_images_alone(built, tmp_path):
    args = arguments(built, result_dir=tmp_path, sal_dataset_dir=built / "set/images", limit=2)
    run(args)
    assert sorted(p.name for p in (tmp_path / "report_files").iterdir()) == ["000.webp", "001.webp"]


def test_a_third_label_is_compared_with_both_before_it():
    maps = {key: np.zeros((2, 4), np.uint8) for key in ("cam", "cam_pamr", "cam_slic", "sal")}
    for key, width in (("cam_pamr", 1), ("cam_slic", 2), ("sal", 4)):
        maps[key][:, :width] = 255
    styles = {"cam": "heat"}
    layers = {Column(k, k, styles.get(k, "gray"), Path(k)): Layer(m, m) for k, m in maps.items()}
    values = assess(layers)["values"]
    assert values["disagreement"] == 0.5 and values["sal.disagreement"] == pytest.approx((0.75 + 0.5) / 2)
    layers[Column("cam_slic", "cam_slic", "gray", Path("cam_slic"))] = Layer(maps["sal"].T, maps["sal"].T)
    values = assess(layers)["values"]
    assert "disagreement" not in values and values["sal.disagreement"] == 0.75  # of another size


def test_disagreement():
    a, b = np.array([[0, 100]], np.uint8), np.array([[100, 100]], np.uint8)
    assert disagreement(a, b) == 0.5 and disagreement(a, a) == 0 and disagreement(a * 0, a * 0) == 0
    ids = np.array([[0, 1, 2, 255]], np.uint8)
    assert disagreement(ids, np.array([[0, 2, 255, 2]], np.uint8), void=255) == 0.5
    assert disagreement(ids * 0 + 255, ids, void=255) == 0


def test_a_large_set_gives_a_sample_with_the_most_doubtful():
    names = [f"{i:06}" for i in range(1000)]

    def sample(doubts, most=100):
        found, total = sample_of(lambda: iter(names), doubts.items(), most)
        assert total == 1000
        return sorted(found)

    assert sample({}, 1000) == names
    found = sample({})
    assert len(found) == 100 and found[0] == names[0] and found[-1] == names[-1]
    assert np.diff([int(name) for name in found]).max() <= 11
    doubts = {name: (7 * k % 1000) / 1000 for k, name in enumerate(names)}
    found = sample(doubts)
    worst = sorted(names, key=lambda name: -doubts[name])[:25]
    assert set(worst) <= set(found) and len(found) == 100
    assert len(sample({"000500": 1.0})) == len(sample({"of another run": 1.0})) == 100


def test_doubts_are_read_as_they_are(tmp_path):
    assert [*read_doubts(tmp_path)] == []
    write_text(tmp_path / "doubtful.csv", "name,doubt,pamr_slic\na b,0.5,1\nc,nan,\nd,x,\ne,0.25,\n,0.5,\nf\n")
    assert [*read_doubts(tmp_path)] == [("a b", 0.5), ("e", 0.25)]
    write_text(tmp_path / "doubtful.csv", "image,score\na,1\n")
    assert [*read_doubts(tmp_path)] == []


def test_the_page_sorts_by_doubt_where_it_is_told(built, tmp_path):
    root = shutil.copytree(built, tmp_path / "again")
    write_text(root / "result" / "doubtful.csv", "name,doubt\n004,0.123456\na b,0.9\nno such image,1\n")
    run(arguments(root))
    found = values_of(root / "result")
    assert page_of(root / "result")["measures"][0]["key"] == "doubt"
    assert (found["004"]["doubt"], found["a b"]["doubt"]) == (0.1235, 0.9) and "doubt" not in found["005"]
    (root / "result" / "doubtful.csv").unlink()
    run(arguments(root))
    assert "doubt" not in values_of(root / "result")["004"]


@pytest.mark.parametrize(
    ("kinds", "measures", "of_classes", "told"),
    [
        ((), (), False, "No labels yet: run make_label or make_slic."),
        (("cam",), ("cam.share",), True, "No labels yet: run make_sem_seg or make_seg."),
        (("cam", "cam_pamr"), (), False, "run run_slic.py, then the report again"),
        (("cam", "sem_seg"), (), True, "run make_seg, then the report again"),
        (("cam_pamr", "cam_slic"), ("disagreement",), False, "sort the images by label disagreement"),
        (("cam_pamr", "cam_slic"), ("doubt", "disagreement"), False, "sort the images by doubt"),
        (("cam_pamr", "mask"), (), False, "There are masks, and no scores: run eval."),
        (("sem_seg", "mask"), (), True, "There are masks, and no scores: run the eval passes."),
    ],
)
def test_the_advice_fits_what_is_there(kinds, measures, of_classes, told):
    styles = {"cam": "heat", "mask": "classes" if of_classes else "mask", "sem_seg": "classes"}
    columns = [Column("image", "image", "photo", Path())]
    columns += [Column(kind, kind, styles.get(kind, "gray"), Path()) for kind in kinds]
    names = {"doubt": "doubt", "disagreement": "label disagreement", "cam.share": "foreground share"}
    held = [{"key": key, "name": names[key]} for key in measures]
    assert told in advice(columns, held, False, of_classes) and advice(columns, held, True, of_classes) == ""


# ------------------------------------------------------------------------------------------------------ in a browser
class Page:
    """The open report: what a person sees and does."""

    def __init__(self, driver, path: Path, anchor=""):
        self.driver = driver
        driver.get("about:blank")
        driver.get_log("browser")  # of the page before
        driver.get(path.as_uri() + anchor)

    def all(self, css):
        return self.driver.find_elements("css selector", css)

    def one(self, css):
        return self.driver.find_element("css selector", css)

    def js(self, script, *args):
        return self.driver.execute_script(script, *args)

    def texts(self, css):
        return self.js("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", css)

    def names(self):
        return self.texts(".card .name")

    def status(self):
        return self.texts("#status")[0]

    def press(self, *keys):
        from selenium.webdriver.common.keys import Keys

        for key in keys:
            self.driver.switch_to.active_element.send_keys(getattr(Keys, key, key))

    def click(self, css):
        self.js("document.querySelector(arguments[0]).click()", css)

    def set(self, css, value, event="input"):
        script = "const e = document.querySelector(arguments[0]); e.focus(); e.value = arguments[1];"
        self.js(script + "e.dispatchEvent(new Event(arguments[2], {bubbles: true}))", css, value, event)

    def sort(self, key):
        self.set("#sort", self.measure(key), "change")

    def data(self):
        return self.js("return JSON.parse(document.getElementById('data').textContent)")

    def measure(self, key):
        return -1 if key == "name" else [m["key"] for m in self.data()["measures"]].index(key)

    def values(self, key):
        k = self.measure(key)
        return {image["name"]: image["values"][k] for image in self.data()["images"]}

    def loaded(self, css):
        """(width, height) of a picture's file, once it is there."""
        script = """const [css, done] = arguments, image = document.querySelector(css);
            const tell = () => done([image.naturalWidth, image.naturalHeight, image.classList.contains("sprite")]);
            image.decode().then(tell, tell);"""
        return self.driver.execute_async_script(script, css)

    def errors(self):
        return [entry["message"] for entry in self.driver.get_log("browser")]


def stage(page):
    """The picture of the detail view as it is shown, without the handle of the slider: (h,w,3) uint8."""
    page.js("document.querySelector('.divider').remove()")
    return np.array(Image.open(io.BytesIO(page.one("#stage").screenshot_as_png)).convert("RGB"))


@pytest.fixture
def opened(built, browser):
    page = Page(browser, built / "result" / "report.html")
    yield page
    assert page.errors() == []


def test_summary_and_curves(opened, built):
    metrics = read_json(built / "result" / "metrics.json")
    assert opened.texts("h1") == ["Pseudo labels of set"]
    assert opened.texts("#tables tbody th") == ["CAM", "pixel-wise label", "superpixel-wise label"]
    heads, cells = opened.texts("#tables thead th")[1:], opened.texts("#tables tbody td")
    assert heads[1] == "MAE ↓" and cells[1] == f"{metrics['cam']['mae']:.3f}"
    best = min(row["mae"] for row in metrics.values())
    assert f"{best:.3f}" in opened.texts("#tables td.best")
    assert opened.texts("figure h3") == ["Precision and recall", "F-measure"]
    assert len(opened.all("figure svg path.series")) == 6
    assert f"best {metrics['cam_pamr']['max_f']:.3f}" in opened.one("figure:nth-child(2) svg").get_attribute(
        "aria-label"
    )
    assert opened.texts("#settings summary")[0] == "CAM: other than the default"
    assert opened.texts("#settings dl div")[:2] == ["cam_scales1.0 0.5, not 1.0", "cam_scales1.0 0.5"]


def test_paging(opened):
    assert opened.names() == sorted(NAMES)[:60] and opened.status() == f"1–60 of {len(NAMES)} images"
    assert not opened.one("#bar .previous").is_enabled()
    opened.click("#bar .next")
    assert opened.names() == sorted(NAMES)[60:] and opened.status().startswith("61–")
    assert not opened.one("#bar .next").is_enabled()
    opened.set("#bar .pager input", "1", "change")
    assert opened.names() == sorted(NAMES)[:60]


def test_sorting_changes_the_order(opened):
    first = opened.names()
    for key, worst_first in (("disagreement", True), ("cam.mae", True), ("cam_slic.max_f", False)):
        opened.sort(key)
        values = {name: v for name, v in opened.values(key).items() if v is not None}
        wanted = sorted(sorted(values), key=values.get)
        if worst_first:
            wanted = sorted(sorted(values), key=lambda name, v=values: -v[name])
        assert opened.names()[:20] == wanted[:20] != first[:20]
        shown = opened.names()
        opened.click("#order")
        assert opened.names()[:20] != shown[:20]
        if key != "disagreement":  # the three without a mask stay last, in either order
            opened.click("#bar .next")
            assert opened.names()[-3:] == NAMES[:3]
    opened.sort("name")
    assert opened.names() == first


def test_filters(opened):
    opened.set("#query", "A B")
    assert opened.names() == ["a b"] and opened.status() == f"1–1 of 1 image (all: {len(NAMES)})"
    opened.set("#query", "nothing like it")
    assert opened.names() == [] and opened.one("#none").is_displayed()
    opened.click("#reset")
    assert len(opened.names()) == 60
    opened.sort("cam.mae")
    values = {name: v for name, v in opened.values("cam.mae").items() if v is not None}
    middle = sorted(values.values())[30]
    opened.set("#to", str(middle))
    assert sorted(opened.names()) == sorted(name for name, v in values.items() if v <= middle)
    assert opened.texts("#chips button") == [f"MAE of CAM ≤ {middle} ✕"]
    opened.sort("disagreement")  # both hold together
    other = opened.values("disagreement")
    opened.set("#from", "0.3")
    assert sorted(opened.names()) == sorted(n for n, v in values.items() if v <= middle and other[n] >= 0.3)
    opened.click("#chips button")
    opened.click("#chips button")
    assert len(opened.names()) == 60 and opened.texts("#chips button") == []


def test_columns_and_sizes(opened):
    assert len(opened.all(".card:first-child .tile")) % 5 == 0
    opened.click("#columns button:nth-child(3)")
    assert opened.texts("li:first-child .caption span:first-child") == ["image", "CAM", "superpixel-wise label", "mask"]
    for _ in range(4):  # one always stays
        opened.click("#columns button[aria-pressed=true]")
    assert len(opened.all("li:first-child .tile")) == 1
    width = opened.one(".card").size["width"]
    opened.click("#sizes button:nth-child(3)")
    assert opened.one(".card").size["width"] > width


def test_arrows_move_between_images(opened):
    opened.js("document.querySelector('.card').focus()")
    focused = "return document.activeElement.querySelector('.name').textContent"
    names = sorted(NAMES)
    opened.press("ARROW_RIGHT", "ARROW_RIGHT", "ARROW_LEFT")
    assert opened.js(focused) == names[1]
    opened.press("ARROW_DOWN")
    assert opened.js(focused) == names[3]  # two cards side by side in a window of this width
    opened.press("END")
    assert opened.js(focused) == names[59]
    opened.press("ARROW_RIGHT")
    assert opened.js(focused) == names[60] and opened.status().startswith("61–")
    opened.press("ARROW_LEFT")
    assert opened.js(focused) == names[59] and opened.status().startswith("1–")
    assert len(opened.all(".card[tabindex='0']")) == 1


def test_detail_by_keyboard(opened):
    names = sorted(NAMES)
    opened.js("document.querySelector('.card').focus()")
    opened.press("ENTER")
    assert opened.one("#detail").is_displayed() and opened.texts("#detail-title") == [names[0]]
    assert opened.loaded("#stage img")[:2] == [WIDTH, HEIGHT]
    opened.press("ARROW_RIGHT", "ARROW_RIGHT", "ARROW_RIGHT", "ARROW_LEFT")
    assert opened.texts("#detail-title") == [names[2]] and opened.texts("#detail-place") == [f"3 of {len(names)}"]
    chosen = "return document.querySelector('#layers [aria-pressed=true]').textContent"
    assert opened.js(chosen) == "CAM" and "#heat" in opened.js("return document.querySelector('.over').style.filter")
    opened.press("ARROW_DOWN")
    assert opened.js(chosen) == "pixel-wise label"
    opened.press("ARROW_DOWN", "ARROW_DOWN")  # no mask of this image
    assert opened.js(chosen) == "CAM" and not opened.one("#layers button:nth-child(4)").is_enabled()
    opened.press("3")
    assert opened.js(chosen) == "superpixel-wise label"
    assert opened.loaded("#stage .over") == [WIDTH, HEIGHT, False]
    opened.press("ESCAPE")
    assert not opened.one("#detail").is_displayed()
    assert opened.js("return document.activeElement.querySelector('.name').textContent") == names[2]


def test_the_slider_uncovers_the_image(opened):
    opened.click(".card")
    opened.js("document.getElementById('slider').focus()")
    edge = "return getComputedStyle(document.querySelector('#stage .over')).clipPath"
    assert opened.js(edge) == "inset(0px 0px 0px 50%)"
    opened.press("ARROW_RIGHT", "ARROW_RIGHT")
    assert opened.js(edge) == "inset(0px 0px 0px 52%)" and opened.texts("#detail-title") == [sorted(NAMES)[0]]
    opened.press("END")
    assert opened.js(edge) == "inset(0px 0px 0px 100%)"
    assert opened.one("#slider").get_attribute("aria-valuetext") == "100 % image"
    opened.click("#modes button:nth-child(2)")
    opened.set("#slider", "25")
    assert opened.js("return getComputedStyle(document.querySelector('#stage .over')).opacity") == "0.25"
    opened.press("ESCAPE")


def test_a_map_is_coloured_over_the_image(opened, built):
    """As misc.report.overview does it for the thumbnails, with another weight."""
    opened.set("#query", "a b")
    opened.click(".card")
    opened.set("#slider", "0")
    opened.js("for (const e of document.querySelectorAll('#stage img')) e.style.imageRendering = 'pixelated'")
    assert opened.loaded("#stage .over") == [WIDTH, HEIGHT, False]
    photo, cam = (
        np.asarray(Image.open(built / path / "a b.png")).astype(np.uint8) for path in ("set/images", "result/cam")
    )
    colours = cv2.applyColorMap(cam, cv2.COLORMAP_TURBO)[..., ::-1]
    wanted = 0.38 * photo + 0.62 * colours
    shown = cv2.resize(stage(opened), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    assert np.abs(shown - wanted).mean() < 6 and np.ptp(colours.reshape(-1, 3), axis=0).max() > 60
    opened.press("ESCAPE")


def test_dragging_on_the_picture_moves_the_slider(opened):
    from selenium.webdriver import ActionChains

    opened.click(".card")
    stage = opened.one("#stage")
    quarter = stage.size["width"] // 4
    ActionChains(opened.driver).move_to_element(stage).click_and_hold().move_by_offset(quarter, 0).release().perform()
    assert 72 <= int(opened.one("#slider").get_attribute("value")) <= 78
    opened.click("#close")
    assert not opened.one("#detail").is_displayed()


@pytest.mark.parametrize("name", [name for name in NAMES if name in NASTY])
def test_names_of_every_kind(opened, name):
    assert name in opened.names() + (opened.click("#bar .next") or opened.names())
    opened.set("#query", name.lower())
    assert opened.names() == [name]
    opened.click(".card")
    assert opened.texts("#detail-title") == [name]
    assert opened.loaded("#stage img") == [WIDTH, HEIGHT, False]
    assert opened.loaded("#stage .over") == [WIDTH, HEIGHT, False]
    assert opened.loaded(".card img")[:2] == [5 * WIDTH, HEIGHT]
    assert len(opened.all("script")) == 2
    opened.press("ESCAPE")


def test_everything_has_a_name_and_nothing_sticks_out(opened):
    script = "return [...document.querySelectorAll(arguments[0])].filter((e) => !(%s)).length"
    opened.sort("disagreement")
    opened.click(".card")
    assert opened.js(script % "(e.ariaLabel || e.textContent).trim()", "button, a, summary, legend, h1, h2") == 0
    assert opened.js(script % "e.ariaLabel || e.labels.length", "input, select") == 0
    assert opened.js(script % "e.hasAttribute('alt')", "img") == 0
    opened.press("ESCAPE")
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    opened.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert opened.js("return document.documentElement.scrollWidth <= innerWidth && innerWidth == 390")
    finally:
        opened.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_dark_and_light(opened):
    def ground(scheme):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        colour = opened.js("return getComputedStyle(document.body).backgroundColor")
        return sum(map(int, colour[4:-1].split(",")))

    assert ground("dark") < 120 and ground("light") > 600


def test_a_file_that_is_gone_is_shown_by_its_thumbnail(built, browser, tmp_path):
    root = shutil.copytree(built, tmp_path / "moved")
    shutil.rmtree(root / "set")
    page = Page(browser, root / "result" / "report.html")
    page.click(".card")
    page.loaded("#stage img")
    assert page.loaded("#stage img") == [5 * WIDTH, HEIGHT, True] and page.one("#detail-note").is_displayed()
    assert all("ERR_FILE_NOT_FOUND" in message for message in page.errors())


def test_images_alone_in_a_browser(built, browser, tmp_path):
    run(arguments(built, result_dir=tmp_path, sal_dataset_dir=built / "set/images", limit=2))
    page = Page(browser, tmp_path / "report.html")
    assert page.names() == sorted(NAMES)[:2] and "No labels yet" in page.texts("#tables")[0]
    assert not page.one("#charts").is_displayed()
    page.click(".card")
    assert page.loaded("#stage img") == [WIDTH, HEIGHT, False] and not page.all(".over")
    assert page.errors() == []


def test_outline_and_zoom(opened, built):
    opened.set("#query", "a b")
    opened.click(".card")
    opened.js("document.getElementById('detail').focus()")
    opened.press("3", "o")
    assert opened.js("return document.querySelector('.over').style.filter") == 'url("#outline")'
    assert not opened.one("#slider").is_enabled() and opened.loaded("#stage .over")[:2] == [WIDTH, HEIGHT]
    label = np.asarray(Image.open(built / "result/cam_slic/a b.png")) > 128
    opened.js("document.querySelector('#stage img').style.visibility = 'hidden'")
    shown = stage(opened).astype(int)
    y, x = np.nonzero((shown[..., 0] > 240) & (shown[..., 1] < 60))  # the ring, in magenta, with nothing else there
    near = cv2.morphologyEx(label.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0
    assert len(y) > 1000 and near[y * HEIGHT // shown.shape[0], x * WIDTH // shown.shape[1]].mean() > 0.95
    opened.press("o")
    assert opened.one("#slider").is_enabled()
    opened.press("+", "+")
    scale = "return new DOMMatrix(getComputedStyle(document.getElementById('sheet')).transform)"
    held = opened.js(f"const m = {scale[7:]}; return [m.a, m.e, m.f]")
    box = opened.js("const b = document.getElementById('stage').getBoundingClientRect(); return [b.width, b.height]")
    assert held == pytest.approx([4, -1.5 * box[0], -1.5 * box[1]], abs=0.5)  # the middle stays
    assert opened.texts("#zooms [aria-pressed=true]") == ["4×"]
    opened.press("-", "0")
    assert opened.js(f"return ({scale[7:]}).a") == 1
    opened.press("ESCAPE")


def test_a_zoomed_picture_is_dragged_and_the_wheel_zooms(opened):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    opened.click(".card")
    stage = opened.one("#stage")
    ActionChains(opened.driver).scroll_from_origin(ScrollOrigin.from_element(stage), 0, -240).perform()
    x = "return new DOMMatrix(getComputedStyle(document.getElementById('sheet')).transform)"
    before = opened.js(f"const m = {x[7:]}; return [m.a, m.e]")
    assert before[0] == pytest.approx(2, abs=0.1)
    ActionChains(opened.driver).move_to_element(stage).click_and_hold().move_by_offset(40, 0).release().perform()
    after = opened.js(f"const m = {x[7:]}; return [m.a, m.e]")
    assert after == pytest.approx([before[0], before[1] + 40], abs=1)
    assert opened.one("#slider").get_attribute("value") == "50"
    opened.press("ESCAPE")


def until(page, script, seconds=10):
    end = time.monotonic() + seconds
    while not page.js(script):
        assert time.monotonic() < end, script
        time.sleep(0.02)


OPEN = "return document.getElementById('detail').open"


def test_an_image_that_is_opened_while_another_closes_stays_open(opened):
    """Going back takes the browser a moment."""
    first, second = opened.names()[:2]
    opened.click(".card")
    script = """const [done] = arguments, detail = document.getElementById("detail");
        detail.addEventListener("close", () => document.querySelectorAll(".card")[1].click(), { once: true });
        detail.close();
        const title = document.getElementById("detail-title");
        setTimeout(() => done([detail.open, title.textContent, location.hash]), 500);"""
    assert opened.texts("#detail-title") == [first]
    assert opened.driver.execute_async_script(script) == [True, second, f"#{quote(second)}"]
    opened.driver.back()
    until(opened, f"return location.hash === '' && !({OPEN[7:]})")


def test_back_closes_an_image_and_its_address_opens_it(opened, built):
    names = sorted(NAMES)
    opened.js("document.querySelector('.card').focus()")
    opened.press("ENTER", "ARROW_RIGHT")
    assert opened.js("return location.hash") == f"#{names[1]}" and opened.js(OPEN)
    opened.driver.back()
    until(opened, "return !document.getElementById('detail').open")
    assert opened.js("return location.hash") == ""
    assert opened.js("return document.activeElement.querySelector('.name').textContent") == names[1]
    opened.driver.forward()
    until(opened, OPEN)
    assert opened.texts("#detail-title") == [names[1]]
    opened.press("ESCAPE")
    until(opened, "return location.hash === ''")
    assert not opened.js(OPEN)
    opened.set("#query", "nothing like it")
    for name in (n for n in NAMES if n in NASTY):
        opened.js("location.hash = arguments[0]", "#" + quote(name))
        until(opened, OPEN)
        assert opened.texts("#detail-title") == [name]
        opened.press("ESCAPE")
        until(opened, "return location.hash === ''")
    page = Page(opened.driver, built / "result" / "report.html", f"#{quote('a b')}")
    assert page.js(OPEN) and page.texts("#detail-title") == ["a b"]
    page.press("ESCAPE")
    until(page, "return location.hash === ''")
    assert not page.js(OPEN)


def page_of_many(built, number, values):
    folder = built / "result"
    columns = [Column("image", "image", "photo", built), Column("cam", "CAM", "heat", folder / "cam")]
    files = built / "set/images/004.png", folder / "cam/004.png"
    entries = [Entry(f"{i:06}", files, folder / "report_files/004.webp") for i in range(number)]
    held = [Record((WIDTH, HEIGHT), (WIDTH, HEIGHT), {"cam.share": float(value)}) for value in values]
    return page_data(folder, columns, dict(zip(entries, held, strict=True)))


def test_a_page_of_a_hundred_thousand_images_opens_at_once_and_says_that_it_shows_a_sample(built, browser):
    data = page_of_many(built, report.MOST, np.linspace(0, 1, report.MOST)) | {"failed": 0, "total": 100_000}
    write_text(built / "result" / "sample.html", page("Many", data))
    started = time.monotonic()
    many = Page(browser, built / "result" / "sample.html")
    until(many, "return document.querySelectorAll('.card').length === 60")
    assert time.monotonic() - started < 2
    assert many.texts("#subtitle")[0].startswith("a sample of 4,000 of 100,000 images · CAM")


def test_a_report_of_a_hundred_thousand_images_is_of_a_sample(built, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "MOST", 20)
    images = {f"{i:06}": built / "set/images/004.png" for i in range(100_000)}
    monkeypatch.setattr("step.sets._open_images", lambda _: ImageFolder(images, None, {}))
    (tmp_path / "cam_pamr").mkdir()
    for name in ("000123", "000001"):
        (tmp_path / "cam_pamr" / f"{name}.png").symlink_to(built / "result/cam_pamr/004.png")
    write_text(tmp_path / "doubtful.csv", "name,doubt\n000123,0.9\n000001,0.8\n")
    report.run(arguments(built, result_dir=tmp_path), Failures(tmp_path / "failed.csv"))
    said = "report: a sample of 20 of 100000 images, the most doubtful among them\n"
    assert said in capsys.readouterr().out and len([*(tmp_path / "report_files").iterdir()]) == 20
    data = page_of(tmp_path)
    assert data["total"] == 100_000 and {"000123", "000001"} <= {image["name"] for image in data["images"]}
    assert "sort the images by doubt" in data["advice"]


def test_ten_thousand_images(built, browser):
    """Sorting, paging and filtering reach all of them, and no more than a page stands in the document."""
    number, rng = 10_000, np.random.default_rng(0)
    shares = rng.permutation(number) / number
    write_text(built / "result" / "many.html", page("Many", {**page_of_many(built, number, shares), "failed": 0}))
    many = Page(browser, built / "result" / "many.html")
    assert many.status() == "1–60 of 10,000 images" and len(many.all(".card")) == 60
    many.sort("cam.share")
    assert many.names() == [f"{i:06}" for i in np.argsort(-shares)[:60]]
    many.set("#bar .pager input", "167", "change")
    assert many.names() == [f"{i:06}" for i in np.argsort(-shares)[9960:]]
    many.set("#from", "0.9989")
    assert len(many.names()) == 11
    many.set("#from", "")
    many.set("#query", "00999")
    assert many.status() == "1–11 of 11 images (all: 10,000)"
    many.click("li:last-child .card")
    many.press("ARROW_LEFT")
    assert many.texts("#detail-place") == ["10 of 11"]
    assert many.errors() == []


# ------------------------------------------------------------------------------------------------------ segmentation
@pytest.fixture(scope="module")
def segmented(tmp_path_factory, photographs):
    """A report of class labels: palette PNGs, gray PNGs of ids, CAMs in .npz."""
    root = tmp_path_factory.mktemp("seg")
    folders = {key: root / key for key in ("image", "cam", "crf", "sem_seg", "mask")}
    for i, (name, photo) in enumerate(crops(photographs)):
        if i == 6:
            break
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        mask[8:40, 8:56] = (1, 8, 15)[i % 3]
        cams = (mask > 0)[None] * np.float32(0.5)
        folders["cam"].mkdir(exist_ok=True)
        np.savez(folders["cam"] / f"{name}.npz", keys=[mask.max() - 1], cam=cams)
        save(folders["image"] / f"{name}.jpg", photo)
        save(folders["sem_seg"] / f"{name}.png", np.roll(mask, 4, 1))
        for key in ("crf", "mask"):
            indexed = Image.fromarray(mask)
            indexed.putpalette(VOC.palette.tobytes())
            folders[key].mkdir(exist_ok=True)
            indexed.save(folders[key] / f"{name}.png")
    metrics = {"n": 6, "miou": 0.8, "iou": {name: 0.5 if name == "cat" else None for name in VOC.names}}
    cam = {"train": {"miou": 0.6, "sweep": [0.1, 0.6, 0.4], "best_threshold": 0.01}, "val": {"miou": 0.5}}
    pseudo = {"val": metrics, "train": {"miou": 0.7, "contour_f_at_0.25": 0.3}}
    write_json(root / "metrics.json", {"sem_seg": pseudo, "cam": cam})
    write_text(root / "doubtful.csv", "name,doubt\n" + "".join(f"{NAMES[k]},0.{k}\n" for k in range(6)))
    write_text(root / "train.csv", "step,loss,lr\n0,2.5,0.1\n10,1.5,0.1\n20,1.0,0.1\n")
    styles, suffixes = {"image": "photo", "cam": "heat"}, {"image": "jpg", "cam": "npz"}
    sources = {
        Column(key, key, styles.get(key, "classes"), folder): {
            name: folder / f"{name}.{suffixes.get(key, 'png')}" for name in NAMES[:6]
        }
        for key, folder in folders.items()
    }
    args = SimpleNamespace(result_dir=root, num_workers=1, overwrite=False, quiet=True)
    failures = Failures(root / "failed.csv")
    masks = {name: folders["mask"] / f"{name}.png" for name in NAMES[:6]}
    for key in ("cam", "crf", "sem_seg"):
        rows = score_folder(folders[key], masks, VOC, args, failures).rows
        write_scores(root, key, ("image", "digest", *IMAGE_COLUMNS), rows)
    parts = {name: "train" if k < 4 else "val" for k, name in enumerate(NAMES[:6])}
    report.make_report(args, failures, "Segmentation", sources, 6, VOC, parts)
    assert failures.close() == 0
    return root


def test_values_of_classes(segmented):
    image = next(image for image in page_of(segmented)["images"] if image["name"] == "001")
    values = values_of(segmented)["001"]
    mask = np.asarray(Image.open(segmented / "mask/001.png"))
    moved = np.asarray(Image.open(segmented / "sem_seg/001.png"))
    confusion = Confusion(VOC.num_classes)
    confusion.step(moved, mask)
    assert image["classes"] == [8] and image["filters"] == {"3": "palette"}
    assert values["crf.miou"] == 1
    assert values["sem_seg.miou"] == pytest.approx(confusion.get_results()["miou"], abs=1e-4) != 1
    assert values["disagreement"] == pytest.approx((mask != moved).mean(), abs=1e-4)
    assert values["cam.share"] == pytest.approx((mask > 0).mean(), abs=1e-4)
    assert not {"cam.mae", "cam.miou"} & set(values)


def test_segmentation_in_a_browser(segmented, browser):
    page = Page(browser, segmented / "report.html")
    assert page.texts("figure h3") == ["Background threshold", "Training loss", "IoU of each class, in %"]
    assert "best 0.600 at 0.01" in page.texts("figure figcaption")[0]
    assert page.texts(".bars td:last-child")[0] == "50.0" and page.texts(".bars td:last-child").count("absent") == 20
    assert page.texts("#classes button") == ["aeroplane 2", "cat 2", "person 2"]
    page.click("#classes button:nth-child(2)")
    assert page.names() == ["001", "004"]
    page.click("#classes button:nth-child(2)")
    assert len(page.names()) == 6
    for name, class_id in (("000", 1), ("001", 8)):
        page.set("#query", name)
        page.click(".card")
        until(page, f"{OPEN} && document.getElementById('detail-title').textContent === '{name}'")
        page.set("#slider", "0")
        for layer in ("2", "3"):  # a palette PNG, and a gray one that is coloured by the browser
            page.js("document.getElementById('detail').focus()")
            page.press(layer)
            assert page.loaded("#stage .over") == [WIDTH, HEIGHT, False]
            assert np.abs(middle_of_stage(page) - VOC.palette[class_id]).max() <= 2
        page.press("ESCAPE")
        until(page, f"{OPEN} === false")
    assert page.errors() == []


def test_parts_are_told_apart_and_the_best_of_each_is_bold(segmented, browser):
    page = Page(browser, segmented / "report.html")
    rows = page.js("return [...document.querySelectorAll('#tables tbody tr')].map((r) => r.textContent)")
    assert [re.match("[a-z_]+", row)[0] for row in rows] == ["train", "cam", "sem_seg", "val", "cam", "sem_seg"]
    assert page.texts("#tables tr.part") == ["train", "val"]
    assert page.texts("#tables td.best") == ["0.700", "0.800"]
    assert page.texts("#tables thead th")[-1] == "contour F at .25 ↑"
    assert page.texts("#part button") == ["train 4", "val 2"]
    assert page.texts(".badge") == ["train"] * 4 + ["val"] * 2
    page.click("#part button:nth-child(2)")
    assert page.names() == NAMES[4:6]
    page.click("#part button:nth-child(2)")
    assert len(page.names()) == 6 and page.errors() == []


def test_rows_of_each_class_with_the_doubtful_first(segmented, browser):
    page = Page(browser, segmented / "report.html")
    page.click("#group button")
    assert page.texts(".group h3") == ["aeroplane", "cat", "person"]
    assert page.names() == ["003", "000", "004", "001", "005", "002"]
    assert page.texts(".card:first-of-type .caption span:first-child")[:5] == ["image", "cam", "crf", "sem_seg", "mask"]
    page.click("li:nth-child(2) .card")
    assert page.texts("#detail-title") == ["003"] and page.texts("#detail-place") == ["1 of 6"]
    page.press("ARROW_RIGHT", "ARROW_RIGHT")
    assert page.texts("#detail-title") == ["004"]
    page.press("ESCAPE")
    page.click(".group button")
    assert page.names() == ["003", "000"] and page.texts(".group") == []
    assert page.errors() == []


def test_class_scores_are_readable_on_a_phone(segmented, browser):
    page = Page(browser, segmented / "report.html")
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        inside = """const box = document.querySelector('.bars').getBoundingClientRect();
            return [...document.querySelectorAll('.bars tbody th, .bars tbody td')].every((cell) => {
              const range = document.createRange();
              range.selectNodeContents(cell.firstChild);
              const text = range.getBoundingClientRect();
              return text.left >= box.left && text.right <= Math.min(box.right, cell.getBoundingClientRect().right + 1);
            })"""
        assert page.js(inside) and page.js("return document.documentElement.scrollWidth <= innerWidth")
        assert page.js("return document.querySelector('.bar').getBoundingClientRect().width") > 20
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def middle_of_stage(page):
    shot = stage(page).astype(int)
    return shot[shot.shape[0] // 2, shot.shape[1] // 2]
