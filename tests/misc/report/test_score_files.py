"""Scores on disk."""

import os

import numpy as np
import pytest

from misc.report.score_files import read_curves, read_scores, write_curves, write_scores


def test_scores_are_read_by_image_and_digest(tmp_path):
    header = ("split", "image", "digest", "miou")
    write_scores(tmp_path, "seg", header, [("train", "a,b", "1", 0.5), ("val", "c", "2", float("nan"))])
    assert read_scores(tmp_path, "seg", {"a,b", "c"}) == {("a,b", "1"): {"miou": 0.5}, ("c", "2"): {}}
    assert read_scores(tmp_path, "seg", {"c"}) == {("c", "2"): {}} and read_scores(tmp_path, "cam", {"c"}) == {}


@pytest.mark.skipif(os.name == "nt", reason="names there are text")
def test_names_that_are_no_text(tmp_path):
    write_scores(tmp_path, "cam", ("image", "digest", "mae"), [("\udcff", "1", 0.25)])
    assert read_scores(tmp_path, "cam", ["\udcff"]) == {("\udcff", "1"): {"mae": 0.25}}


def test_curves(tmp_path):
    curve = np.linspace(0, 1, 256)
    write_curves(tmp_path, "cam", {"precision": 1 - curve, "recall": curve, "f": curve, "e": curve})
    assert (tmp_path / "scores/cam_curves.csv").read_text().splitlines()[:2] == [
        "threshold,precision,recall,f",
        "255,1.0,0.0,0.0",
    ]
    np.testing.assert_allclose(read_curves(tmp_path, "cam")["recall"], curve, atol=1e-6)
    write_curves(tmp_path, "cam", {})
    assert read_curves(tmp_path, "cam") == read_curves(tmp_path, "seg") == {"precision": [], "recall": [], "f": []}
