"""Settings say what they are and what they may be; both can be had without numba and torch."""

import dataclasses
import subprocess
import sys

import pytest

from pgt.crf import CRFParams
from pgt.seam_weights import SEAMWeights
from pgt.settings import check_bounds, setting


@dataclasses.dataclass(frozen=True)
class Kettle:
    litres: float = setting(1.5, "how much it holds", above=0, at_most=3)
    cups: int | None = setting(None, "how many it fills", at_least=1)
    colour: str = setting("red", "of its lid", choices=("red", "blue"))
    name: str = "k"

    __post_init__ = check_bounds


def test_what_is_within_bounds_passes():
    assert Kettle(3, 1, "blue", "any") == dataclasses.replace(Kettle(), litres=3, cups=1, colour="blue", name="any")
    assert dict(dataclasses.fields(Kettle)[0].metadata) == {"help": "how much it holds", "above": 0, "at_most": 3}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"litres": 0}, "litres is 0: give a number above 0 and at most 3"),
        ({"litres": 3.1}, "litres is 3.1"),
        ({"litres": float("nan")}, "litres is nan"),
        ({"cups": 0}, "cups is 0: give a number at least 1"),
        ({"cups": float("inf")}, "cups is inf"),
        ({"colour": "green"}, r"colour is 'green': give one of red, blue"),
    ],
)
def test_what_is_not_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Kettle(**wrong)


@pytest.mark.parametrize("settings", [CRFParams, SEAMWeights])
def test_every_number_has_a_help_text(settings):
    for field in dataclasses.fields(settings):
        assert field.metadata.get("help") or field.name == "feature_order"


def test_settings_need_neither_numba_nor_torch():
    code = (
        "import sys, pgt.crf, pgt.seam_weights; sys.exit(bool({'numba', 'llvmlite', 'torch', 'cv2'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
