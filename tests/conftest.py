"""What the tests share: real pictures, and the golden numbers of the published code where they are at hand."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.golden.weights import state_dict

# The last bit of a sum depends on how many threads add it up: one here, and in every process that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="cuda, cuda:1, ...: run what has a meaning there, skip the rest")


def pytest_configure(config: pytest.Config) -> None:
    """Without --device nothing here meets a GPU: "auto" is the CPU, in processes that a test starts too."""
    if config.getoption("--device") == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if (device := config.getoption("--device")) != "cpu":
        for item in items:
            if "gpu" not in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.skip(reason=f"pins what the CPU gives: run without --device {device}"))


@pytest.fixture
def gpu(request) -> Callable[[], contextlib.AbstractContextManager]:
    """`with gpu() as device:`: the device of --device, at full precision; without it, tensors that claim to be on CUDA
    (tests/claimed.py), which know forward passes alone."""
    import torch

    from tests.claimed import claiming_cuda

    @contextlib.contextmanager
    def real() -> Iterator[torch.device]:
        precision, tf32 = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = False
        try:
            yield torch.empty(1, device=request.config.getoption("--device")).device
        finally:
            torch.backends.cudnn.allow_tf32 = tf32
            torch.set_float32_matmul_precision(precision)

    return claiming_cuda if request.config.getoption("--device") == "cpu" else real


@pytest.fixture
def real_gpu(gpu, request) -> Callable[[], contextlib.AbstractContextManager]:
    """gpu, for what needs a backward pass too."""
    if request.config.getoption("--device") == "cpu":
        pytest.skip("needs a GPU: run with --device cuda where there is one")
    return gpu


def _shared(*parts: str) -> Path:
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} is not in {SHARED.name}/ beside the repository")
    return path


@pytest.fixture
def shared():
    """shared("data", "ecssd") -> path beside the repository; skips the test where it is absent."""
    return _shared


class Golden:
    """Arrays of one golden file by name: those of tests/golden, and of ../shared where it is there; others skip."""

    def __init__(self, name: str):
        paths = [folder / f"{name}.npz" for folder in (ROOT / "tests" / "golden", SHARED / "golden")]
        self._name, self._parts = name, [np.load(path, allow_pickle=False) for path in paths if path.exists()]
        self.files = list(dict.fromkeys(key for part in self._parts for key in part.files))

    def __getitem__(self, key: str) -> np.ndarray:
        for part in self._parts:
            if key in part:
                return part[key]
        pytest.skip(f"{key} of {self._name} is not in tests/golden, and {SHARED.name}/ is not beside the repository")


@pytest.fixture(scope="session")
def golden():
    """golden(name) -> arrays of published outputs; .image(name) -> uint8 RGB; .weights(arrays) -> state dict arrays."""

    def image(name: str) -> np.ndarray:
        if name in (own := Golden("images")).files:
            return own[name]
        return np.asarray(Image.open(_shared("golden", "images", f"{name}.png")).convert("RGB"))

    def load(name: str) -> Golden:
        return Golden(name)

    load.image = image
    load.weights = lambda arrays: state_dict(arrays["state_dict_spec"].tolist())
    return load


@pytest.fixture(scope="session")
def photographs() -> SimpleNamespace:
    """Real pictures (uint8 RGB) that scikit-image installs with itself."""
    from skimage import data

    return SimpleNamespace(astronaut=data.astronaut(), cat=data.chelsea(), coffee=data.coffee(), rocket=data.rocket())


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium, driven by selenium; skips the test where one of the two is absent."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium, to test the pages")
    found = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome", "chrome")]
    chromium, driver = next(filter(None, found), None), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no chromium and chromedriver on the PATH, to test the pages with")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1300,900"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(driver))
    driver.set_script_timeout(20)
    yield driver
    driver.quit()
