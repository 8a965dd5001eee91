"""data.prepare: an existing tree is completed, an absent one is fetched; killed and started again, nothing is lost."""

import hashlib
import io
import json
import os
import shutil
import tarfile
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import run_coco
import run_voc
from data import archives, coco14, prepare, voc12
from data.archives import Archive
from data.datasets import DATASETS, read_names
from data.labelled import open_labelled
from data.segmentation import open_segmentation
from misc.errors import InputError
from misc.files import download
from misc.run.passes import run_passes
from misc.run.progress import SILENT


@pytest.fixture
def coco(shared, tmp_path) -> Path:
    """coco128 with the folders and names of COCO 2014."""
    source, root = shared("data", "coco128"), tmp_path / "COCO"
    (root / "annotations").mkdir(parents=True)
    shutil.copy(source / "instances_train2017.json", root / "annotations" / "instances_train2014.json")
    shutil.copytree(source / "images", root / "train2014")
    return root


@pytest.fixture
def voc(shared, tmp_path) -> Path:
    root = tmp_path / "VOC2012"
    shutil.copytree(shared("data", "VOCdevkit", "VOC2012"), root, copy_function=shutil.copyfile)
    for folder, _, _ in os.walk(root):
        Path(folder).chmod(0o755)
    return root


def run(dataset: str, root: Path, *flags: str) -> int:
    return prepare.main([dataset, "--root", str(root), "--quiet", *flags])


def state(root: Path) -> dict[str, tuple[bytes, int]]:
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(root.rglob("*.png"))}


# ---- COCO


def test_coco(coco, capsys):
    assert run("coco14", coco) == 0
    spec = DATASETS["coco14"]
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith(f"coco14 in {coco}; writes there: class_names.txt, labels_<split>.csv, ")
    assert told[1].startswith("masks of instances_train2014: 128 masks made")
    assert told[3].split() == ["train", "128", "82783", "362", "128"] and "classes         80" in told
    names = read_names(coco / spec.lists["train"])
    assert names == sorted(path.stem for path in (coco / "train2014").iterdir())
    with Image.open(coco / spec.mask_dir / f"{names[0]}.png") as mask:
        assert mask.mode == "P" and np.array_equal(np.array(mask.getpalette()).reshape(-1, 3), spec.palette)
    data = open_labelled(coco / "labels_train.csv", class_names=spec.class_names)
    assert np.array_equal(data.labels, open_labelled(coco, "coco").labels) and len(data) == 128
    for i in range(0, 128, 9):  # each class of a mask is one of the image
        label = np.asarray(Image.open(coco / spec.mask_dir / f"{data.names[i]}.png"))
        assert {int(v) - 1 for v in np.unique(label) if 0 < v < 255} <= set(np.flatnonzero(data.labels[i]))
    part = open_segmentation(coco, spec, "train")
    assert part.mask_dir == coco / "SegmentationClass" and len(part.images) == 128
    assert all(part.masks[name].is_file() for name in part.images.names)


def test_coco_again_keeps_what_is_current(coco):
    assert run("coco14", coco) == 0
    before = state(coco)
    masks = sorted(before)
    Path(masks[3]).unlink()
    file = coco / "annotations" / "instances_train2014.json"
    held = json.loads(file.read_text())
    changed = held["annotations"][0]
    changed["category_id"] = 1 if changed["category_id"] != 1 else 2
    file.write_text(json.dumps(held))
    name = next(image["file_name"] for image in held["images"] if image["id"] == changed["image_id"])
    assert run("coco14", coco, "--num_workers", "1") == 0
    after = state(coco)
    other = {path for path in masks if before[path] != after[path]}
    assert other == {masks[3], str(coco / "SegmentationClass" / f"{Path(name).stem}.png")}
    assert after[masks[3]][0] == before[masks[3]][0]


def test_coco_masks_of_others_stay(coco, capsys):
    stranger = coco / "SegmentationClass" / "000000000009.png"
    stranger.parent.mkdir()
    Image.new("L", (640, 480)).save(stranger)
    content = stranger.read_bytes()
    assert run("coco14", coco) == 1 and stranger.read_bytes() == content
    assert "made by another program; move it away" in capsys.readouterr().err
    assert "000000000009" in (coco / "prepare_failed.csv").read_text()
    stranger.unlink()
    assert run("coco14", coco) == 0 and not (coco / "prepare_failed.csv").exists()


def test_coco_damaged_annotation_is_one_images_failure(coco, capsys):
    file = coco / "annotations" / "instances_train2014.json"
    held = json.loads(file.read_text())
    held["annotations"][0]["segmentation"] = [[1, 2, 3]]
    file.write_text(json.dumps(held))
    assert run("coco14", coco) == 1
    assert "no usable segmentation" in capsys.readouterr().err and len(state(coco)) == 127


def test_some_categories_of_coco_keep_their_labels(coco):
    instances = coco14.read_instances(coco / "annotations" / "instances_train2014.json", "--root")
    some = {number: name for number, name in instances.categories.items() if name in ("dog", "bus")}
    label = coco14.label_of_category(replace(instances, categories=some))
    assert {DATASETS["coco14"].names[label[number]] for number in some} == {"dog", "bus"}
    own = coco14.label_of_category(replace(instances, categories={1: "robot", 7: "apple"}))
    assert own == {1: 1, 7: 2}
    with pytest.raises(InputError, match="255 categories"):
        coco14.label_of_category(replace(instances, categories={i: f"c{i}" for i in range(255)}))


def test_coco_trees_that_are_none(coco, tmp_path, capsys):
    shutil.copy(coco / "annotations" / "instances_train2014.json", coco / "annotations" / "instances_train2017.json")
    assert run("coco14", coco) == 2 and "are both train; take one away" in capsys.readouterr().err
    (coco / "annotations" / "instances_train2017.json").unlink()
    next((coco / "train2014").iterdir()).unlink()
    assert run("coco14", coco) == 2 and "1 of 128 pictures are missing" in capsys.readouterr().err
    assert run("coco14", coco / "train2014") == 2 and "no annotations" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert run("coco14", tmp_path / "file") == 2 and "is a file" in capsys.readouterr().err


# ---- VOC


def test_voc(voc, capsys):
    (voc / "SegmentationClassAug" / "2007_000032.png").unlink()  # one of train
    assert run("voc12", voc.parent) == 0
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["train", "43", "1464", "76", "43"] in told and ["val", "10", "1449", "13", "10"] in told
    train, val, aug = (read_names(voc / DATASETS["voc12"].lists[split]) for split in ("train", "val", "train_aug"))
    assert aug == sorted(set(train) - {"2007_000032"}) and not set(aug) & set(val)
    for split in ("train", "train_aug", "val"):
        listed = open_labelled(voc, "csv", DATASETS["voc12"].class_names, split)
        assert np.array_equal(listed.labels, open_labelled(voc, "voc12", split=split).labels)
    part = open_segmentation(voc.parent, DATASETS["voc12"], "val")
    assert part.mask_dir == voc / "SegmentationClass" and part.images.names == tuple(sorted(val))


def test_voc_without_the_augmented_masks(voc, capsys):
    shutil.rmtree(voc / "SegmentationClassAug")
    assert run("voc12", voc) == 0 and "so no train_aug; --download gets it" in capsys.readouterr().out
    assert not (voc / "ImageSets" / "Segmentation" / "train_aug.txt").exists()


def test_voc_trees_that_are_none(voc, capsys):
    assert run("voc12", voc / "ImageSets") == 2 and "no JPEGImages in it" in capsys.readouterr().err
    (voc / "JPEGImages" / "2007_000033.jpg").unlink()
    assert run("voc12", voc) == 2 and "2007_000033.jpg" in capsys.readouterr().err
    shutil.rmtree(voc / "ImageSets")
    shutil.rmtree(voc / "SegmentationClassAug")
    assert run("voc12", voc) == 2 and "get the devkit again" in capsys.readouterr().err


def test_unknown_classes_stop_prepare_and_run_voc_alike(voc, tmp_path, capsys):
    file = voc / "Annotations" / "2007_000032.xml"
    text = file.read_text()
    file.write_text(text.replace("<name>aeroplane</name>", "<name>dragon</name>", 1))
    assert run("voc12", voc) == 2
    told = capsys.readouterr().err
    assert "2007_000032.jpg names 'dragon'" in told and f"run_voc.py --data_dir {voc}" in told
    assert not (voc / "class_names.txt").exists()
    argv = ["--voc12_root", str(voc), "--seam_network", "efficientnet_lite0", "--result_dir", str(tmp_path / "r")]
    assert run_passes(run_voc.PASSES, lambda: run_voc.parse(argv)) == 2
    told = capsys.readouterr().err
    assert "2007_000032.jpg has it" in told and f"--data_dir {voc}" in told and "data.prepare" not in told
    file.write_text(text)
    assert run("voc12", voc) == 0
    assert open_segmentation(voc, None).spec.class_names == DATASETS["voc12"].class_names


def test_categories_of_its_own_are_told_with_the_command_for_them(coco, tmp_path, capsys):
    file = coco / "annotations" / "instances_train2014.json"
    held = json.loads(file.read_text())
    held["categories"] = [{**one, "name": f"my {one['name']}"} for one in held["categories"]]
    file.write_text(json.dumps(held))
    assert run("coco14", coco) == 0
    assert f"its 80 classes are its own: run_voc.py --data_dir {coco}" in capsys.readouterr().out
    argv = ["--coco14_root", str(coco), "--seam_network", "efficientnet_lite0", "--result_dir", str(tmp_path / "r")]
    assert run_passes(run_coco.PASSES, lambda: run_coco.parse(argv)) == 2
    told = capsys.readouterr().err
    assert f"--data_dir {coco}" in told and "data.prepare" not in told


# ---- downloads


@pytest.fixture
def served(tmp_path, monkeypatch):
    """served(name, {path: bytes}) -> Archive of these files, on a web server of this machine; .seen: what was asked."""
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.setattr(download, "PAUSE", 0)
    folder, seen = tmp_path / "www", []
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            seen.append(self.path)

    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def serve(name: str, files: dict[str, bytes], **facts) -> Archive:
        if name.endswith(".zip"):
            with zipfile.ZipFile(folder / name, "w") as packed:
                for path, content in files.items():
                    packed.writestr(path, content)
        else:
            with tarfile.open(folder / name, "w") as packed:
                for path, content in files.items():
                    member = tarfile.TarInfo(path)
                    member.size = len(content)
                    packed.addfile(member, io.BytesIO(content))
        content = (folder / name).read_bytes()
        url = f"http://127.0.0.1:{http.server_port}/{name}"
        return Archive(url, len(content), sha256=hashlib.sha256(content).hexdigest(), **facts)

    serve.seen = seen
    yield serve
    http.shutdown()
    thread.join()
    http.server_close()


def packed(root: Path, inside: str, *folders: str) -> dict[str, bytes]:
    files = [path for folder in folders for path in sorted((root / folder).rglob("*")) if path.is_file()]
    return {f"{inside}{path.relative_to(root).as_posix()}": path.read_bytes() for path in files}


def test_voc_is_downloaded(voc, served, tmp_path, monkeypatch, capsys):
    folders = "JPEGImages", "Annotations", "ImageSets", "SegmentationClass"
    devkit = served("VOC.tar", packed(voc, "VOCdevkit/VOC2012/", *folders), makes="SegmentationClass")
    devkit = replace(devkit, inside="VOCdevkit/VOC2012")
    masks = {**packed(voc, "", "SegmentationClassAug"), "__MACOSX/SegmentationClassAug/._a.png": b"x"}
    aug = served("Aug.zip", masks, makes="SegmentationClassAug")
    monkeypatch.setattr(voc12, "ARCHIVES", (devkit, aug))
    root = tmp_path / "new" / "VOC2012"
    assert run("voc12", root) == 0
    assert ["train_aug", "43", "10582", "76", "43"] in [line.split() for line in capsys.readouterr().out.splitlines()]
    assert packed(root, "", *folders[:2]) == packed(voc, "", *folders[:2])
    assert not [path for path in root.rglob("*") if path.name.startswith((".", "__MACOSX"))]
    num_asked = len(served.seen)
    assert run("voc12", root) == 0 and len(served.seen) == num_asked
    shutil.rmtree(root / "SegmentationClassAug")
    assert run("voc12", root) == 0 and len(served.seen) == num_asked  # a tree that is there is taken as it is
    assert run("voc12", root, "--download") == 0 and served.seen[num_asked:] == ["/Aug.zip"]


def test_killed_while_unpacking(served, tmp_path, monkeypatch):
    files = {f"train2014/{i}.jpg": bytes([i]) * 1000 for i in range(9)}
    one, two = served("one.zip", files, makes="train2014"), served("two.zip", {"val2014/a.jpg": b"a"}, makes="val2014")
    root = tmp_path / "coco"

    def killed(source, out, length):
        if source.name.endswith("4.jpg"):
            out.write(b"half")
            raise KeyboardInterrupt
        shutil.copyfileobj(source, out, length)

    with monkeypatch.context() as m:
        m.setattr(archives, "shutil", SimpleNamespace(copyfileobj=killed, disk_usage=shutil.disk_usage))
        with pytest.raises(KeyboardInterrupt):
            archives.fetch((one, two), root, talk=SILENT)
    assert archives.is_under_way(root) and len(list((root / "train2014").iterdir())) == 4
    kept = (root / "train2014" / "3.jpg").stat().st_mtime_ns
    archives.fetch((one, two), root, talk=SILENT)
    assert {p.relative_to(root).as_posix(): p.read_bytes() for p in (root / "train2014").iterdir()} == files
    assert (root / "val2014" / "a.jpg").read_bytes() == b"a" and not archives.is_under_way(root)
    assert served.seen == ["/one.zip", "/two.zip"] and (root / "train2014" / "3.jpg").stat().st_mtime_ns == kept


def test_members_that_lead_elsewhere_are_left_out(served, tmp_path):
    files = {"../out.txt": b"x", "a/../../out.txt": b"x", "/abs.txt": b"x", "C:/x.txt": b"x", "a\\..\\..\\o.txt": b"x"}
    archive = served("bad.zip", {**files, "a/good.txt": b"good", "b/unwanted.txt": b"x"}, makes="a")
    root = tmp_path / "deep" / "root"
    archives.fetch((replace(archive, only="a/"),), root, talk=SILENT)
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.txt")] == ["deep/root/a/good.txt"]
    link = tarfile.TarInfo("a/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(tmp_path / "www" / "link.tar", "w") as file:
        file.addfile(link)
    url = archive.url.replace("bad.zip", "link.tar")
    archives.fetch((Archive(url, 1, makes="c"),), root, talk=SILENT)
    assert not (root / "a" / "link").exists()


def test_no_network_no_space_no_archive(served, tmp_path, monkeypatch, capsys):
    gone = replace(served("one.zip", {"a.txt": b"a"}, makes="a.txt"), url="http://127.0.0.1:9/one.zip")
    monkeypatch.setattr(coco14, "ARCHIVES", (gone,))
    root = tmp_path / "COCO"
    assert run("coco14", root) == 2
    told = capsys.readouterr().err
    assert "cannot be downloaded" in told and f"unpack that file by hand, so that there is {root / 'a.txt'}" in told
    assert told.count("\n") == 1
    (root / "a.txt").write_text("unpacked by hand")
    assert run("coco14", root) == 2 and "no annotations" in capsys.readouterr().err  # and no further try
    huge = served("two.zip", {"b.txt": b"b"}, makes="b.txt")
    with pytest.raises(InputError, match="needs .* GB more there; choose another disk"):
        archives.fetch((replace(huge, size=10**17),), tmp_path / "x", talk=SILENT)
    other = replace(huge, sha256="0" * 64)
    with pytest.raises(InputError, match="SHA-256"):
        archives.fetch((other,), tmp_path / "y", talk=SILENT)
    broken = tmp_path / "www" / "two.zip"
    broken.write_bytes(broken.read_bytes()[:20])
    with pytest.raises(InputError, match="no whole archive .* run again"):
        archives.fetch((replace(huge, sha256=None),), tmp_path / "z", talk=SILENT)
    assert not list((tmp_path / "z").rglob("*.zip"))


def test_published_archives_are_named_in_full():
    for archive in (*voc12.ARCHIVES, *coco14.ARCHIVES):
        assert archive.url.startswith("https://") and (archive.sha256 is None or len(archive.sha256) == 64)
    assert sum(archive.sha256 is not None for archive in (*voc12.ARCHIVES, *coco14.ARCHIVES)) == 4
