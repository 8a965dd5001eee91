"""Who may import whom, how long files may be, and that what is told in two places is told alike."""

import ast
from pathlib import Path

import pytest

import run_sample
import run_slic
import run_voc
from data.layouts import LAYOUTS
from net.deeplab import HEADS
from pgt.crf import CRF_RECIPES, FEATURE_ORDERS
from pgt.superpixel import LAB_MODES

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("pgt", "net", "misc", "data", "step")
# arrows point down only
MAY_IMPORT = {
    "pgt": {"pgt"},
    "net": {"net", "misc", "pgt"},
    "misc": {"misc", "pgt"},
    "data": {"data", "misc", "pgt"},
    "step": {"step", "net", "misc", "data", "pgt"},
    "run": {"run", "labeller", "misc", "pgt"},
    "labeller": {"run", "step", "net", "misc", "pgt"},
}
LONGEST = 420  # lines of a file


def files():
    return [p.relative_to(ROOT) for p in [*ROOT.glob("*.py"), *(p for f in FOLDERS for p in (ROOT / f).rglob("*.py"))]]


def name_of(path):
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in files()}


def imports_of(path, when_loaded=False):
    """Modules of ours that a file imports when it runs, or is loaded: those for annotations alone are left out."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
        if isinstance(node, ast.FunctionDef) and when_loaded:
            node.body = [ast.Pass()]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & MODULES.keys()


def folder_of(module):
    first = module.split(".")[0]
    return "run" if first.startswith("run_") else first


@pytest.mark.parametrize("module", sorted(MODULES))
def test_arrows_point_down(module):
    wrong = {other for other in imports_of(MODULES[module]) if folder_of(other) not in MAY_IMPORT[folder_of(module)]}
    assert wrong <= ({"run_voc"} if module == "step.make_seg" else set())  # its stand-alone form borrows the numbers


def test_no_step_imports_another_step():
    steps = {m for m, p in MODULES.items() if m.startswith("step.") and "\ndef run(" in (ROOT / p).read_text()}
    assert len(steps) >= 16
    assert not {(m, other) for m in steps for other in imports_of(MODULES[m]) & steps}


def test_no_cycles():
    arrows = {m: imports_of(p, when_loaded=True) - {m} for m, p in MODULES.items()}
    while leaves := {m for m, to in arrows.items() if not to & arrows.keys()}:
        arrows = {m: to for m, to in arrows.items() if m not in leaves}
    assert not arrows


@pytest.mark.parametrize("script", [run_sample, run_slic, run_voc])
def test_a_pass_is_named_as_its_step(script):
    for flag, target in script.PASSES.items():
        module, _, _ = target.step.partition(":")
        assert module == f"step.{flag.removesuffix('_pass')}" and module in MODULES, flag


def test_no_file_is_long():
    lengths = {str(p): len((ROOT / p).read_text(encoding="utf-8").splitlines()) for p in files()}
    assert {p: n for p, n in lengths.items() if n > LONGEST} == {}


def choices(script, flag):
    return tuple(script.TABLE.resolve({}).places[flag].facts["choices"])


def test_choices_of_flags_are_those_of_the_tables_behind_them():
    assert set(choices(run_sample, "cls_layout")) == {"auto", *LAYOUTS}
    assert set(choices(run_slic, "slic_lab")) == set(LAB_MODES)
    assert set(choices(run_voc, "seg_head")) == set(HEADS)
    assert set(choices(run_voc, "seg_crf_recipe")) <= set(CRF_RECIPES)
    assert choices(run_sample, "label_crf_feature_order") == FEATURE_ORDERS
    for script in (run_sample, run_slic, run_voc):
        for flag, recipes in script.RECIPES.items():
            known = script.TABLE.resolve({}).places[flag]
            assert set(recipes) <= set(known.facts.get("choices", (True, False)))
