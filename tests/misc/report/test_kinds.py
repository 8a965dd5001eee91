"""Kinds of maps and labels, and where they are."""

import os
from types import SimpleNamespace

from misc.report.kinds import SALIENCY, SEGMENTATION, folders, is_outdated
from misc.report.page import STYLES


def arguments(root, **given):
    flags = dict.fromkeys(kind.folder_flag for kind in SALIENCY if kind.folder_flag)
    return SimpleNamespace(result_dir=root, maps_of_others=False, **{**flags, **given})


def test_folders_are_those_that_are_there_or_that_flags_name(tmp_path):
    (tmp_path / "r/cam_pamr").mkdir(parents=True)
    (tmp_path / "maps").mkdir()
    args = arguments(tmp_path / "r", cam_out_dir=tmp_path / "maps")
    found = {kind.key: folder for kind, folder in folders(SALIENCY, args).items()}
    assert found == {"cam": tmp_path / "maps", "cam_pamr": tmp_path / "r/cam_pamr"}
    args.maps_of_others = True
    assert [kind.key for kind in folders(SALIENCY, args)] == ["cam_pamr"]
    (tmp_path / "r/seg").mkdir()
    assert [kind.key for kind in folders(SEGMENTATION, arguments(tmp_path / "r"))] == ["seg"]


def test_labels_are_outdated_where_a_map_is_newer(tmp_path):
    args = arguments(tmp_path)
    label = SALIENCY[1]
    for folder in ("cam", "cam_pamr"):
        (tmp_path / folder).mkdir()
    (tmp_path / "cam/a.png").touch()
    assert is_outdated(label, ["a"], args)  # there is none
    (tmp_path / "cam_pamr/a.png").touch()
    os.utime(tmp_path / "cam/a.png", (1, 1))
    assert not is_outdated(label, ["a", "b"], args)
    os.utime(tmp_path / "cam/a.png", (4e9, 4e9))
    assert is_outdated(label, ["a", "b"], args) and not is_outdated(SALIENCY[0], ["a"], args)


def test_a_label_that_is_not_made_of_maps_is_as_good_as_ever(tmp_path):
    args, label = arguments(tmp_path), next(kind for kind in SALIENCY if kind.key == "sal")
    for folder in ("cam", "sal"):
        (tmp_path / folder).mkdir()
    (tmp_path / "cam/a.png").touch()
    assert is_outdated(label, ["a"], args)
    (tmp_path / "sal/a.png").touch()
    os.utime(tmp_path / "cam/a.png", (4e9, 4e9))
    assert not is_outdated(label, ["a"], args)


def test_every_row_is_complete():
    for table in (SALIENCY, SEGMENTATION):
        assert len({kind.key for kind in table}) == len({kind.title for kind in table}) == len(table)
        assert {kind.style for kind in table} <= set(STYLES)
