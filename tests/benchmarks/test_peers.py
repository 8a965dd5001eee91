"""What stands in the way of a benchmark is told in one line."""

import pytest

from benchmarks.peers import maps, masks, peer, pictures, same_names
from misc.errors import InputError


def test_a_missing_package_is_named_with_the_way_to_get_it():
    with pytest.raises(InputError, match=r"python -m pip install some-package$"):
        peer("no_module_of_this_name", "some-package")


def test_without_a_folder_the_sample_is_taken():
    images = pictures(None, "--images")
    assert len(images) == 8
    same_names(images, masks(None, "--masks"), "--masks")


def test_missing_maps_are_told_of(tmp_path):
    with pytest.raises(InputError, match=r"--pred_dir .*run_sample\.py"):
        maps(tmp_path / "cam", "--pred_dir")
    with pytest.raises(InputError, match=r"--pred_dir: none of the name of .*cat\.png"):
        same_names({"cat": tmp_path / "cat.png"}, {}, "--pred_dir")
