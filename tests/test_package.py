"""The method as a package: what is in its wheel, that it works without torch, and that it needs no other folder."""

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path for path in (ROOT / "pgt").rglob("*") if path.suffix == ".py" or path.name == "py.typed")

LABEL_A_PHOTOGRAPH = """
import sys
sys.modules["torch"] = None  # an import of it is an error
import numpy as np
from skimage import data
import pgt
from pgt.crf import CRF_RECIPES, dense_crf
from pgt.metrics import BoxAccuracy, Confusion, ContourF, SaliencyMetrics, ThresholdSweep
from pgt.pamr import refine_saliency
from pgt.seam_weights import SEAMWeights
from pgt.superpixel import slic, superpixel_mean

image = np.ascontiguousarray(data.coffee()[::4, ::4])
saliency = refine_saliency(image, image[::4, ::4, 0] / 255)
prob = superpixel_mean(saliency, slic(image, 60))
label = dense_crf(image, np.stack([1 - prob, prob]), CRF_RECIPES["wsod_superpixel"]).argmax(0)
metrics = SaliencyMetrics()
metrics.step(saliency, label > 0)
assert label.shape == (100, 150) and 0.1 < label.mean() < 0.9 and metrics.get_results()["max_f"] > 0.8
print(pgt.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A copy of the sources made into a wheel, as `pip install .` does."""
    folder = tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "pgt", folder / "source" / "pgt", ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    (folder / "source" / "misc").mkdir()
    (folder / "source" / "misc" / "__init__.py").touch()
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(folder), str(folder / "source")]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and re.search("No module named pip|No matching distribution found for setuptools", done.stderr):
        pytest.skip("pip cannot fetch setuptools here, which builds the wheel")
    assert not done.returncode, done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_method_alone(wheel):
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert sorted(names) == sorted(path.relative_to(ROOT).as_posix() for path in SOURCES)


def test_a_photograph_is_labelled_without_torch(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    command = [sys.executable, "-c", LABEL_A_PHOTOGRAPH]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert Path(done.stdout.strip()).parent == tmp_path / "pgt"


def test_the_method_imports_no_other_folder():
    known = {"cv2", "llvmlite", "numba", "numpy", "pgt", "PIL", "torch", *sys.stdlib_module_names}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= known, path


def test_what_the_readme_imports_is_there():
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("from pgt")]
    assert len(lines) >= 6
    exec(
        "\n".join(
            [*lines, "from pgt.crf import dense_crf_torch, mean_field_torch", "from pgt.losses import SEAMWeights"]
        ),
        {},
    )


def test_the_package_and_the_checkout_ask_for_the_same_versions():
    wanted = set((ROOT / "requirements.txt").read_text().splitlines())
    text = (ROOT / "pyproject.toml").read_text()
    listed = re.findall(r'"((?:numpy|numba|opencv-python-headless|pillow|torch)>=[^"]+)"', text)
    assert len(listed) == 5 and set(listed) <= wanted
