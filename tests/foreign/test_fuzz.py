"""A short run of the fuzzing script; `python -m tests.foreign.fuzz` is the long one."""

import pytest

pytest.importorskip("resource", reason="Windows counts memory otherwise")

from tests.foreign import fuzz


@pytest.mark.parametrize(("kind", "count"), [("pictures", 40), ("exif", 80), ("predictions", 30), ("entries", 60)])
def test_every_file_is_accounted_for(kind, count, capsys):
    assert fuzz.main([kind, "--times", str(count / fuzz.COUNTS[kind]), "--seed", "1"]) == 0
    assert f"{kind}: {count}: " in capsys.readouterr().out


def test_results_that_were_mutated_are_made_anew():
    assert fuzz.main(["results", "--times", str(12 / fuzz.COUNTS["results"])]) == 0
