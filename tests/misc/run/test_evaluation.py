"""Tables of scores, and evaluations that have nothing to compare with."""

from types import SimpleNamespace

import pytest

from misc.errors import InputError
from misc.report.saliency_scores import COLUMNS
from misc.run.evaluation import nothing_to_compare, table

ROW = {name: 0.5 for name in COLUMNS} | {"n": 100000}


def test_the_scores_of_saliency_fit_a_terminal():
    lines = table({kind: ROW for kind in ("cam", "cam_pamr", "cam_slic", "sal")}, COLUMNS).splitlines()
    assert len(lines) == 5 and max(map(len, lines)) <= 80
    assert lines[0].split() == list(COLUMNS) and lines[2].split() == ["cam_pamr", "100000", *["0.500"] * 7]


def test_what_is_wider_comes_in_parts_that_say_whose_they_are():
    columns = (*COLUMNS, "max_box_acc", "box_threshold")
    rows = {"result/of/somebody/else": {**ROW, "max_box_acc": 0.25}, "mine": ROW}
    lines = table(rows, columns).splitlines()
    assert max(map(len, lines)) <= 80 and len(lines) == 6
    heads = [lines[0].split(), lines[3].split()]
    assert [*heads[0], *heads[1]] == [*COLUMNS, "max_box_acc"]  # one that no row has is left out
    assert lines[1].split()[0] == lines[4].split()[0] == "result/of/somebody/else"
    assert lines[4].split()[-1] == "0.250" and len(lines[5].split()) == len(lines[4].split()) - 1  # an empty cell


def test_nothing_to_compare_with_is_an_error_where_nothing_else_was_asked(capsys):
    nothing_to_compare("eval_x", "no masks", SimpleNamespace(evaluates_alone=False))
    assert capsys.readouterr().out == "eval_x: no masks, so there is nothing to compare with\n"
    with pytest.raises(InputError, match="eval_x: no masks"):
        nothing_to_compare("eval_x", "no masks", SimpleNamespace(evaluates_alone=True))
