"""The toy set: a VOC tree that is the same for the same seed, whose labels, boxes and masks agree."""

from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from data import toy
from data.datasets import DATASETS, get_dataset
from data.segmentation import open_segmentation
from misc.errors import InputError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return toy.write_toy(tmp_path_factory.mktemp("toy"), num_train=24, num_val=8, seed=3)


@pytest.fixture(scope="module")
def scenes():
    return [toy.draw_scene(np.random.default_rng([3, i])) for i in range(120)]


def content(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_tree(root):
    spec = get_dataset(str(root / "class_names.txt"))
    assert spec.class_names == toy.CLASS_NAMES
    train, val = (open_segmentation(root, spec, split) for split in ("train", "val"))
    assert len(train.images) == 24 and len(val.images) == 8 and not set(train.images.names) & set(val.images.names)
    assert open_segmentation(root, split="train").spec.class_names == toy.CLASS_NAMES
    for part in (train, val):
        for name, own in zip(part.images.names, part.images.labels, strict=True):
            with Image.open(part.masks[name]) as mask:
                assert mask.mode == "P" and np.array_equal(
                    np.array(mask.getpalette()).reshape(-1, 3), DATASETS["voc12"].palette
                )
                label = np.asarray(mask)
            assert set(np.unique(label)) - {0, 255} == set(np.flatnonzero(own) + 1)


def test_boxes_hold_what_can_be_seen(root):
    for annotation in sorted((root / "Annotations").iterdir()):
        label = np.asarray(Image.open(root / "SegmentationClass" / f"{annotation.stem}.png"))
        inside = np.zeros(label.shape, bool)
        for tag in ElementTree.parse(annotation).iter("object"):
            x0, y0, x1, y1 = (int(tag.findtext(f"bndbox/{k}")) for k in ("xmin", "ymin", "xmax", "ymax"))
            assert 1 <= x0 < x1 <= label.shape[1] and 1 <= y0 < y1 <= label.shape[0]
            box = label[y0 - 1 : y1, x0 - 1 : x1]
            assert (box == 1 + toy.CLASS_NAMES.index(tag.findtext("name"))).mean() > 0.25
            inside[y0 - 1 : y1, x0 - 1 : x1] = True
        assert not ((label > 0) & (label < 255) & ~inside).any()


def test_same_seed_same_bytes(root, tmp_path):
    again = toy.write_toy(tmp_path / "again", 24, 8, seed=3)
    assert content(again) == content(root)
    longer = content(toy.write_toy(tmp_path / "longer", 26, 6, seed=3))
    pictures = {path for path in content(root) if path.startswith(("JPEG", "Seg"))}
    assert all(longer[path] == content(root)[path] for path in pictures)
    other = content(toy.write_toy(tmp_path / "other", 2, 1, seed=4))
    assert other["JPEGImages/toy_00000.jpg"] != content(root)["JPEGImages/toy_00000.jpg"]


def test_what_is_there(tmp_path, monkeypatch):
    root = toy.write_toy(tmp_path / "toy", 2, 1)
    with monkeypatch.context() as m:
        m.setattr(toy, "draw_scene", None)
        assert toy.write_toy(root, 2, 1) == root  # nothing is drawn
    toy.write_toy(root, 1, 1)
    assert len(list((root / "JPEGImages").iterdir())) == 2
    (root / "toy.json").write_text('{"toy": "begun"}')  # killed
    toy.write_toy(root, 2, 1)
    assert len(list((root / "JPEGImages").iterdir())) == 3
    (root / "toy.json").unlink()
    with pytest.raises(InputError, match="holds something else than a toy set"):
        toy.write_toy(root, 2, 1)


def test_pictures(scenes):
    sides = np.array([scene.label.shape for scene in scenes])
    assert sides.min() >= 100 and sides.max() <= 128 and len(np.unique(sides)) > 15
    assert {len(scene.objects) for scene in scenes} == {1, 2, 3}
    for scene in scenes:
        assert scene.image.dtype == np.uint8 and scene.image.shape == (*scene.label.shape, 3)
    present = np.array([[any(label == k for label, _ in s.objects) for k in range(1, 7)] for s in scenes])
    assert (present.sum(axis=0) > 10).all()
    together = np.array([(present[:, k] & present[:, (k + 2) % 6]).mean() for k in range(6)]).mean()
    apart = np.array([(present[:, k] & present[:, (k + 1) % 6]).mean() for k in range(6)]).mean()
    assert together > 1.5 * apart  # some keep company


def test_heads_are_a_small_and_telling_part(scenes):
    """A head's hue tells the class; a body's does not."""
    heads, bodies, shares = {}, {}, []
    for scene in scenes:
        if len(scene.objects) == 1:
            label = scene.objects[0][0]
            body = (scene.label == label) & ~scene.heads
            shares.append(scene.heads.sum() / (body | scene.heads).sum())
            heads.setdefault(label, []).append(scene.image[scene.heads].mean(axis=0))
            bodies.setdefault(label, []).append(scene.image[body].mean(axis=0))
    assert 0.05 < np.mean(shares) < 0.25

    def within_of_between(colours: dict) -> float:
        within = np.mean([np.var(c, axis=0).sum() for c in colours.values()])
        return within / np.var([np.mean(c, axis=0) for c in colours.values()], axis=0).sum()

    assert within_of_between(heads) < 0.3 and within_of_between(bodies) > 1


def test_borders_are_void_and_thin(scenes):
    for scene in scenes[:20]:
        void = scene.label == 255
        thick = void[:-2, :-2] & void[2:, 2:] & void[:-2, 2:] & void[2:, :-2] & void[1:-1, 1:-1]
        assert 0 < void.mean() < 0.15 and thick.sum() < 0.05 * void.sum()
        across = (scene.label[:, :-1] != scene.label[:, 1:]) & ~void[:, :-1] & ~void[:, 1:]
        assert not across.any()
