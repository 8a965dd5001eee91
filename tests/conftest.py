"""What the tests share: real pictures, and the golden numbers of the published code where they are at hand."""

import importlib.util
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

# The last bit of a sum depends on how many threads add it up: one here, and in every process that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


def _shared(*parts: str) -> Path:
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} is not in {SHARED.name}/ beside the repository")
    return path


@pytest.fixture
def shared():
    """shared("data", "ecssd") -> path beside the repository; skips the test where it is absent."""
    return _shared


@pytest.fixture(scope="session")
def golden():
    """golden(name) -> npz of published outputs; .image(name) -> uint8 RGB; .weights(npz) -> state dict arrays."""

    def load(name: str):
        return np.load(_shared("golden", f"{name}.npz"), allow_pickle=False)

    def image(name: str) -> np.ndarray:
        return np.asarray(Image.open(_shared("golden", "images", f"{name}.png")).convert("RGB"))

    def weights(npz, key: str = "state_dict_spec") -> dict[str, np.ndarray]:
        spec = importlib.util.spec_from_file_location("golden_rule", _shared("golden", "rule.py"))
        rule = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(rule)
        return rule.make_state_dict(rule.parse_spec(npz[key]))

    load.image = image
    load.weights = weights
    return load


@pytest.fixture(scope="session")
def photographs() -> SimpleNamespace:
    """Real pictures (uint8 RGB) that scikit-image installs with itself."""
    from skimage import data

    return SimpleNamespace(astronaut=data.astronaut(), cat=data.chelsea(), coffee=data.coffee(), rocket=data.rocket())
