"""Flags mean what they say, and a table of defaults that does not fit the flags is an error."""

import argparse

import pytest

import run_sample
from misc.errors import InputError
from misc.run.flags import Flags, flag


def test_passes_mean_what_they_say():
    assert run_sample.parse([]).make_cam_pass is True
    assert run_sample.parse(["--make_cam_pass"]).make_cam_pass is True
    assert run_sample.parse(["--make_cam_pass", "False"]).make_cam_pass is False
    assert run_sample.parse(["--overwrite", "--make_cam_pass", "true"]).overwrite is True
    with pytest.raises(argparse.ArgumentTypeError, match="neither True nor False"):
        flag("maybe")


@pytest.mark.parametrize(
    "argv",
    [
        ["--unknown", "1"],
        ["--make_cam_pas", "True"],
        ["--cam_scales", "0"],
        ["--cam_scales", "-1"],
        ["--cam_scales", "nan"],
        ["--cam_scales"],
        ["--limit", "0"],
        ["--max_side", "x"],
        ["--label_binary", "1.5"],
        ["--label_pamr_num_iter", "-1"],
    ],
)
def test_bad_flags_end_with_2(argv, capsys):
    with pytest.raises(SystemExit) as e:
        run_sample.parse(argv)
    assert e.value.code == 2
    assert argv[0] in capsys.readouterr().err


def test_any_number_of_scales():
    assert run_sample.parse(["--cam_scales", "1"]).cam_scales == [1.0]
    assert run_sample.parse(["--cam_scales", "1", "0.25", "3", "2", "1.2"]).cam_scales == [1.0, 0.25, 3.0, 2.0, 1.2]


def test_help_groups_the_flags_by_stage(capsys):
    with pytest.raises(SystemExit) as e:
        run_sample.parse(["--help"])
    out = capsys.readouterr().out
    assert e.value.code == 0
    order = ["make_cam:", "--cam_scales", "make_label:", "--label_pamr_num_iter", "eval:", "--mask_dir"]
    assert sorted(order, key=out.index) == order
    assert all(f"--{name} " in out for name in run_sample.DEFAULTS)


def test_a_default_that_no_flag_reads():
    with pytest.raises(InputError, match="cam_scale"):
        Flags("", {"cam_scale": 1}).parse([])
    with pytest.raises(InputError, match="DEFAULTS has no x"):
        Flags("", {}).group("g").add("x", int, "")
