"""What a pass was made with: written beside its folder, lent to what reads it, by the passes of the run scripts."""

import json

import pytest

import run_sample
import run_voc
from misc.errors import InputError
from misc.run.flags import Args
from misc.run.records import record_path, write_record

MAKES = {one.makes: name.removesuffix("_pass") for name, one in run_voc.PASSES.items() if one.makes}


def parsed(*on: str, flags: tuple[object, ...] = (), script=run_voc) -> Args:
    """on: the passes that are on, without _pass."""
    passes = [f"--{n}={n.removesuffix('_pass') in on}" for n in script.PASSES if n.endswith("_pass")]
    return script.parse([*map(str, flags), *passes])


def made(root, *whats, flags=()):
    """As after a run of all passes with these flags, results of whats alone."""
    args = run_voc.parse(["--result_dir", str(root), *map(str, flags), *(f"--{n}=True" for n in run_voc.PASSES)])
    for what in whats:
        write_record(args, MAKES[what], what, root / what)


@pytest.mark.parametrize("preset", ["published", "small", "default"])
def test_every_record_that_is_written_can_be_read(preset, tmp_path):
    made(tmp_path, *MAKES, flags=("--preset", preset, "--seg_crf", "False"))
    held = json.loads((tmp_path / "settings" / "seg.json").read_text())
    assert held["settings"]["seg_crf"] is False and "seg_crf_num_iter" not in held["settings"] | held["changed"]
    args = parsed("eval_sem_seg", "report", flags=("--result_dir", tmp_path))
    assert args.preset == preset and (args.sem_seg.crf is None) == (preset == "published") and args.seg_crf is None


def test_the_crf_left_out_stays_out_when_the_label_is_read(tmp_path):
    args = run_sample.parse(["--result_dir", str(tmp_path), "--label_crf", "False"])
    write_record(args, "make_label", "cam_pamr", tmp_path / "cam_pamr")
    again = parsed("eval", flags=("--result_dir", tmp_path), script=run_sample)
    assert again.label.crf is None


def test_records_lend_where_they_are_read_alone(tmp_path):
    """eval_cam reads cam, whatever the folders of other passes were made of."""
    made(tmp_path, "crf", "sem_seg", "seg", flags=("--limit", 12))
    made(tmp_path, "train_seam", "cam")
    assert parsed("eval_cam", flags=("--result_dir", tmp_path)).limit is None
    assert parsed("eval_cam", flags=("--result_dir", tmp_path, "--limit", 43)).limit == 43
    assert parsed("eval_sem_seg", flags=("--result_dir", tmp_path)).limit == 12
    assert parsed("report", flags=("--result_dir", tmp_path)).limit == 12  # what all have


def test_a_pass_that_is_off_lends_also_after_one_that_is_on(tmp_path):
    made(tmp_path, *MAKES, flags=("--sem_seg_confidence", 0.9))
    assert parsed("make_cam", "train_seg", flags=("--result_dir", tmp_path)).sem_seg.confidence == 0.9
    assert parsed("make_cam", "make_sem_seg", "train_seg", flags=("--result_dir", tmp_path)).sem_seg.confidence == 0.0


def test_what_a_flag_names_instead_neither_lends_nor_forbids(tmp_path):
    made(tmp_path, "train_seam", flags=("--limit", 12, "--seam_network", "efficientnet_lite0"))
    with pytest.raises(InputError, match="--limit 43: train_seam was made with 12"):
        parsed("make_cam", flags=("--result_dir", tmp_path, "--limit", 43))
    there = ("--result_dir", tmp_path, "--cam_weights", tmp_path / "seam.pth")
    assert parsed("make_cam", flags=there).limit is None
    assert parsed("make_cam", flags=(*there, "--limit", 43, "--seam_network", "resnet50")).limit == 43


def test_records_that_do_not_belong_together_stop_the_run(tmp_path):
    made(tmp_path, "cam", flags=("--max_side", 512))
    made(tmp_path, "sem_seg")
    with pytest.raises(InputError, match=r"cam with --max_side 512: sem_seg was made with 1024"):
        parsed("report", flags=("--result_dir", tmp_path))
    assert parsed("eval_cam", flags=("--result_dir", tmp_path)).max_side == 512


def test_what_is_taken_over_is_told(tmp_path, capsys):
    made(tmp_path, *MAKES, flags=("--preset", "small", "--limit", 12))
    parsed("eval_cam", flags=("--result_dir", tmp_path))
    assert capsys.readouterr().out == "as it was made: --preset small, --limit 12\n"
    parsed("eval_cam", flags=("--result_dir", tmp_path, "--preset", "small", "--limit", 12))
    assert capsys.readouterr().out == ""


def test_paths_move_with_the_folder_and_texts_are_paths_too(tmp_path, monkeypatch):
    weights = tmp_path / "a" / "w.pth"
    weights.parent.mkdir()
    weights.touch()
    monkeypatch.chdir(tmp_path)
    args = run_sample.parse(["--result_dir", "a", "--cam_weights_dir", "a/w.pth"])
    write_record(args, "make_cam", "cam", args.result_dir / "cam")
    for name in ("a/w.pth", "./a/w.pth", weights):
        parsed("make_label", flags=("--result_dir", "a", "--cam_weights_dir", name), script=run_sample)
    with pytest.raises(InputError, match="was made with a/w.pth"):
        parsed("make_label", flags=("--result_dir", "a", "--cam_weights_dir", "b/w.pth"), script=run_sample)


@pytest.mark.parametrize("value", [True, "x", 0, [1]])
def test_an_odd_value_is_one_line_that_names_the_record(value, tmp_path):
    made(tmp_path, "cam")
    args = parsed("eval_cam", flags=("--result_dir", tmp_path))
    path = record_path(args, "cam")
    held = json.loads(path.read_text())
    held["settings"]["limit"] = value
    path.write_text(json.dumps(held))
    with pytest.raises(InputError, match=r"cam\.json: cannot be read"):
        parsed("eval_cam", flags=("--result_dir", tmp_path))
