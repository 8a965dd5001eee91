"""Flags mean what they say, and the top of a script says what they are where nobody does."""

import re
from dataclasses import replace

import pytest

import run_coco
import run_sample
import run_slic
import run_voc
from misc.errors import InputError
from misc.run.flags import Table, flag, flags_of, stage
from pgt.crf import CRF_RECIPES, CRFParams

PARSERS = {"run_sample": run_sample.parse, "run_voc": run_voc.parse, "run_coco": run_coco.parse}


@stage("a stage", prefix="x_", of=("make_x",))
class X:
    many: tuple[float, ...] = flag((1.0, 2.0), "numbers", often=True, above=0)
    two: tuple[int, int] | None = flag(None, "two numbers", at_least=1)
    crf: CRFParams | None = flag(CRF_RECIPES["wsss_cam"], "a CRF")
    kind: str = flag("plain", "a choice", choices=("plain", "other"))


@stage("no prefix")
class Loose:
    folder: str | None = flag(None, "a folder", often=True)
    quiet: bool = flag(False, "no words")
    limit: int | None = flag(3, "a number", at_least=1)


RECIPES = {"x_kind": {"other": {"x_many": (5.0,), "x_crf": None}}}
TABLE = Table("A script.", (X(), Loose()), RECIPES, positional="folder")


def parse(*argv):
    return TABLE.parse(argv)[0]


def test_values_by_stage_and_by_flag():
    args = parse("--x_many", "3", "--x_crf_num_iter", "2", "--quiet")
    assert args.x.many == args.x_many == (3.0,) and args.x.crf.num_iter == args.x_crf_num_iter == 2
    assert args.x_crf is args.x.crf and args.x.crf.bilateral_sxy == 80 and args.quiet is True and args.limit == 3
    assert set(args.flat()) == {f.name for s in TABLE.stages for f in flags_of(s)}
    with pytest.raises(AttributeError):
        _ = args.nothing


@pytest.mark.parametrize("text", ["1,0.5", "1 0.5", "1, 0.5"])
def test_lists_with_commas_and_with_blanks(text):
    assert parse("--x_many", *text.split()).x.many == (1.0, 0.5)
    assert parse(f"--x_many={text.replace(' ', '')}" if "," in text else "--x_many=1,0.5").x.many == (1.0, 0.5)


def test_a_bare_word_is_the_folder_wherever_it_stands():
    for argv in (["photos", "--quiet"], ["--quiet", "photos"], ["--x_many", "1", "2", "photos"]):
        assert parse(*argv).folder == "photos"
    assert parse("--quiet", "photos").quiet is True and parse("--quiet", "False", "photos").quiet is False
    with pytest.raises(InputError, match="'b' belongs to no flag"):
        parse("a", "b")


def test_none_is_a_value_where_it_may_be():
    assert parse("--limit", "none").limit is None and parse("--x_two", "1", "2").x.two == (1, 2)
    assert parse("--x_kind", "other", "--x_crf_num_iter", "4").x.crf.num_iter == 4  # a flag of it means it is there
    assert parse("--x_crf", "False", "--x_crf_num_iter", "4").x.crf is None
    assert parse("--x_crf", "False").x.crf is None and parse("--x_crf", "False").flat()["x_crf"] is False
    with pytest.raises(InputError, match="--x_many 'none': is not a number"):
        parse("--x_many", "none")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--unknown", "1"], "--unknown: no such flag"),
        (["--x_mny", "1"], "did you mean --x_many?"),
        (["--x_many", "0"], "--x_many 0.0: give a number above 0"),
        (["--x_many", "nan"], "--x_many nan: give a number above 0"),
        (["--x_many", "-1"], "give a number above 0"),
        (["--x_many"], "--x_many needs a value"),
        (["--x_many", ","], "--x_many : takes some values, not 0"),
        (["--x_two", "1"], "--x_two 1: takes 2 values, not 1"),
        (["--limit", "0"], "--limit 0: give a number at least 1"),
        (["--limit", "x"], "--limit 'x': is not a whole number"),
        (["--limit", "--quiet"], "--limit needs a value"),
        (["--quiet=maybe"], "--quiet 'maybe': is not True or False"),
        (["--x_kind", "othr"], "give one of plain, other; did you mean other?"),
        (["--x_crf_num_iter", "-1"], "--x_crf_num_iter -1: give a number at least 0"),
        (["-q"], "'-q' belongs to no flag"),
    ],
)
def test_bad_flags_are_one_line(argv, message):
    with pytest.raises(InputError) as e:
        parse(*argv)
    assert message in str(e.value) and "\n" not in str(e.value)


def test_flag_before_recipe_before_top():
    assert parse().x.many == (1.0, 2.0) and parse().x.crf == CRF_RECIPES["wsss_cam"]
    assert parse("--x_kind", "other").x.many == (5.0,) and parse("--x_kind", "other").x.crf is None
    assert parse("--x_kind", "other", "--x_many", "7").x.many == (7.0,)
    top = Table("", TABLE.stages, RECIPES, top={"x_many": (9.0,), "x_kind": "other"})
    assert top.parse([])[0].x.many == (5.0,)
    assert top.parse(["--x_kind", "plain"])[0].x.many == (9.0,)


@pytest.mark.parametrize("script", [run_sample, run_slic, run_voc])
def test_flag_before_recipe_before_top_in_every_stage_of_every_script(script):
    """Whatever a recipe sets, its flag overrides; whatever it does not set is as at the top."""
    base = Table("", script.STAGES, script.RECIPES).resolve({}).flat()
    table = Table("", script.STAGES, script.RECIPES)
    for name, recipes in script.RECIPES.items():
        for choice in recipes:
            with_recipe = table.resolve({name: choice}).flat()
            changed = {k for k in base if with_recipe[k] != base[k]} - {name}
            assert changed or choice in ("default", "wsss_seg"), (name, choice)
            for flag_name in changed:
                both = table.resolve({name: choice, flag_name: base[flag_name]}).flat()
                assert both[flag_name] == base[flag_name], (choice, flag_name)


def test_the_crf_at_the_top_of_run_voc_is_the_one_that_counts():
    stages = [replace(s, seg_crf=None) if isinstance(s, run_voc.Segmenter) else s for s in run_voc.TABLE.stages]
    edited = replace(run_voc.TABLE, stages=stages)
    assert edited.resolve({}).seg_crf is None
    assert edited.resolve({"seg_crf_recipe": "wsss_cam"}).seg_crf == CRF_RECIPES["wsss_cam"]


@pytest.mark.parametrize("script", [run_sample, run_slic])
def test_there_is_always_a_folder_for_results(script):
    with pytest.raises(InputError, match="--result_dir is missing: everything is written below this folder"):
        script.parse(["--result_dir", "none"])


def test_the_top_of_a_script_cannot_be_wrong_in_silence():
    with pytest.raises(InputError, match="names x_mny, which is no flag; did you mean x_many"):
        Table("", TABLE.stages, top={"x_mny": 1}).parse([])
    with pytest.raises(InputError, match="--limit 0: give a number at least 1"):
        Table("", (Loose(limit=0),)).parse([])
    for wrong in (Loose(limit="5"), Loose(limit=2.5), Loose(quiet=None), X(many=1.0), X(two=(1,))):
        with pytest.raises(InputError, match="is not|takes"):
            Table("", (wrong,)).parse([])


def help_of(parse, *argv):
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as e:
        parse([*argv])
    assert e.value.code == 0
    return out.getvalue()


@pytest.mark.parametrize("name", PARSERS)
def test_help_shows_a_dozen_and_help_all_everything_with_defaults(name, tmp_path):
    few, everything = help_of(PARSERS[name], "--help"), help_of(PARSERS[name], "--help_all")
    flags = set(PARSERS[name](["--result_dir", str(tmp_path)]).flat())
    assert set(re.findall(r"^  --(\w+)", everything, re.MULTILINE)) == flags
    shown = re.findall(r"^  --(\w+)", few, re.MULTILINE)
    assert 10 <= len(shown) <= 16 and "--help_all" in few
    for text, names in ((few, shown), (everything, flags)):
        assert text.count("(default: ") + len(re.findall(r"\(default:\n", text)) == len(names)


def test_help_shows_what_recipes_make_of_the_defaults():
    assert "(default: resnet38)" in help_of(run_voc.parse, "--help")
    assert "(default: efficientnet_lite0)" in help_of(run_voc.parse, "--preset", "small", "--help")


def test_help_loads_no_torch():
    import subprocess
    import sys

    code = "import sys, run_sample, run_slic, run_voc, run_coco; assert 'torch' not in sys.modules, 'torch'"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=run_sample.ROOT)


def test_passes_mean_what_they_say(tmp_path):
    def make_cam(*argv):
        return run_sample.parse(["--result_dir", str(tmp_path), *argv]).make_cam_pass

    assert make_cam() is True and make_cam("--make_cam_pass") is True and make_cam("--make_cam_pass", "False") is False
    assert make_cam("--make_cam_pass=false") is False
