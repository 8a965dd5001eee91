"""The samples of the trainings are those of the plain way, byte for byte."""

import numpy as np
import pytest

from benchmarks import loader
from benchmarks.peers import pictures
from misc.train import augment


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return loader.write_pictures(tmp_path_factory.mktemp("pictures"), list(pictures(None, "--images").values()))[0]


@pytest.mark.parametrize(
    ("plain", "ours"), [(loader.plain_seam, loader.our_seam), (loader.plain_seg, loader.our_seg)], ids=["seam", "seg"]
)
def test_same_bytes(files, plain, ours):
    for i in range(3 * len(files)):
        file = files[i % len(files)]
        expected, found = (way(file, np.random.default_rng(i)) for way in (plain, ours))
        assert len(expected) == len(found)
        for a, b in zip(expected, found, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("strength", [0.3, 1.0])
@pytest.mark.parametrize("hue", [0.0, 0.1, 1.0])
def test_colors_have_the_same_bytes(photographs, strength, hue):
    for seed in range(5):
        for image in (photographs.cat, photographs.rocket[:, ::-1]):
            pairs = [
                (loader.plain_color_jitter, augment.color_jitter, (strength, hue)),
                (loader.plain_hsv_jitter, augment.hsv_jitter, (int(200 * strength),)),
            ]
            for plain, ours, settings in pairs:
                expected = plain(image, *settings, np.random.default_rng(seed))
                np.testing.assert_array_equal(ours(image, *settings, np.random.default_rng(seed)), expected)


def test_every_way_is_measured(files, capsys):
    loader.measure("seg", loader.ways_of(loader.plain_seg, loader.our_seg), files[:1], 1, 80)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["plain", "cpu", "gpu"] and all("cores" in line for line in lines)
