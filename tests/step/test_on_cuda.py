"""Every pass, and the loss of every training, on a GPU: a real one (pytest --device cuda), or tensors that claim to be
there (tests/claimed.py). What mixes devices fails, and what comes out is what the CPU makes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import net
import run_sample
import run_voc
from data.datasets import DatasetSpec
from data.labelled import LabelledImages
from data.toy import CLASS_NAMES, write_toy
from misc.files.predictions import read_prediction
from misc.run.passes import run_passes
from misc.train.recolor import color_jitter_steps, recolored
from net.network import NetFacts
from net.weights import save_checkpoint
from pgt.affinity import RADIUS, pair_indices, random_walk
from pgt.crf import CRF_RECIPES, dense_crf, dense_crf_torch
from pgt.losses import SEAMWeights
from pgt.pamr import refine_saliency, refine_saliency_torch
from run_sample import TrainCam, TrainSal
from run_voc import Aff, Seam, Seg
from step import train_aff, train_cam, train_sal, train_seam, train_seg

K, SIDE = 3, 64
SPEC = DatasetSpec("three", ("a", "b", "c"))


def cam_task(network, **recipe):
    labels = np.eye(4, K, dtype=np.uint8)
    images = LabelledImages([Path(f"{i}.png") for i in range(4)], labels, ("a", "b", "c"))
    return train_cam.CamTask(network, images, TrainCam(**recipe))


TASKS = {
    "cam": ("softmax", lambda n: cam_task(n, loss="cross_entropy", fsl_weight=0.1), ()),
    "cam soft margin": ("sigmoid", lambda n: cam_task(n, loss="soft_margin"), ()),
    "cam balanced": ("sigmoid", lambda n: cam_task(n, loss="bce_balanced"), ()),
    "plain": ("sigmoid", lambda n: train_seam.SeamTask(n, None, Seam(), None), ()),
    "seam": ("seam", lambda n: train_seam.SeamTask(n, None, Seam(), SEAMWeights(isl_weight=0, fsl_weight=0)), ()),
    "hfpl": ("seam", lambda n: train_seam.SeamTask(n, None, Seam(), SEAMWeights()), ()),
    "aff": ("affinity", lambda n: train_aff.AffTask(n, None, (), Aff()), (SIDE // 8, SIDE // 8)),
    "seg largefov": ("largefov", lambda n: train_seg.SegTask(n, None, (), SPEC, Seg()), (SIDE, SIDE)),
    "seg generalized": (
        "deeplabv3", lambda n: train_seg.SegTask(n, None, (), SPEC, Seg(loss="generalized")), (SIDE, SIDE)
    ),
}  # fmt: skip


def batch(size):
    """Images, and labels of them (K,), or of this size."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (2, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    label = torch.randint(0, 2, (2, *(size or (K,))), generator=generator)
    return image, label.to(torch.uint8) if size else label.float()


def colors_of(image):
    """What the reading threads give a device that changes colours."""
    steps = [color_jitter_steps(one.permute(1, 2, 0).numpy(), 0.3, 0.1, np.random.default_rng(0)) for one in image]
    return torch.from_numpy(np.stack(steps)), torch.ones(len(image), SIDE, SIDE, dtype=torch.uint8)


def network_of(name, head):
    torch.manual_seed(0)
    return net.build_from(NetFacts(name, 0 if head in ("affinity", "saliency") else K, head=head))


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet50", "resnet38"])
@pytest.mark.parametrize("kind", TASKS)
def test_forward_and_loss_of_every_training(kind, name, gpu):
    head, make, size = TASKS[kind]
    image, label = batch(size)
    task = make(network_of(name, head))
    task.net.eval()  # dropout draws other numbers on a GPU
    expected = {k: v.item() for k, v in task.loss(image, label).items()}
    with gpu() as device:
        task = make(network_of(name, head).to(device))
        task.net.eval()
        parts = task.loss(image.to(device), label.to(device))
        assert all(part.device == device for part in parts.values())
        assert {k: v.item() for k, v in parts.items()} == pytest.approx(expected, rel=1e-3, abs=1e-5)
        task.net.train()
        colors = colors_of(image) if getattr(task, "spares", False) else ()
        assert task.loss(*(one.to(device) for one in (image, label, *colors)))["loss"].isfinite()
        assert bool(colors) == (kind in ("plain", "seam", "hfpl", "seg largefov", "seg generalized"))


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet50", "resnet38"])
def test_learning_from_labels_that_move(name, photographs, gpu):
    """train_sal: the loss of a batch and the targets after it, colours changed on the device."""
    image, targets = batch(())[0], np.zeros((3, SIDE // 4, SIDE // 4), np.uint8)
    targets[:, 4:12, 2:9] = 255
    steps = color_jitter_steps(photographs.cat, 0.3, 0.0, np.random.default_rng(0))
    colors = torch.from_numpy(np.stack([steps, steps])), torch.ones(2, SIDE, SIDE, dtype=torch.uint8)
    given = image, torch.tensor([2, 0]), torch.tensor([True, False]), *colors

    def learn(network, given):
        held = train_sal.SelfTraining(network, targets.copy())
        task = train_sal.SalTask(held, (), TrainSal(view_sides=(SIDE // 2, SIDE)), refine_from=0, rows=2)
        held.eval()
        torch.manual_seed(0)
        return task.loss(*given), held.targets

    expected, moved = learn(network_of(name, "saliency"), given)
    with gpu() as device:
        parts, got = learn(network_of(name, "saliency").to(device), [one.to(device) for one in given])
        assert all(part.device == device for part in parts.values()) and got.device.type == "cpu"
        values = {k: v.item() for k, v in expected.items()}
        assert {k: v.item() for k, v in parts.items()} == pytest.approx(values, rel=1e-3, abs=1e-5)
    assert (got.int() - moved.int()).abs().max() <= 1 and (moved.numpy() != targets).any((1, 2)).tolist() == [1, 0, 1]


@pytest.mark.parametrize("planted", ["label", "weight", "made"])
def test_a_device_mix_that_is_planted_is_found(planted, gpu):
    image, label = batch(())

    class Planted(train_seam.SeamTask):
        def loss(self, image, label):
            parts = super().loss(image, label)
            return {"loss": parts["loss"] * torch.ones(1)} if planted == "made" else parts

    with gpu() as device, pytest.raises(RuntimeError, match="same device|should be the same"):
        network = network_of("efficientnet_lite0", "seam").to(device)
        if planted == "weight":
            network.f9.weight = torch.nn.Parameter(network.f9.weight.cpu())
        label = label if planted == "label" else label.to(device)
        Planted(network, None, Seam(), SEAMWeights()).loss(image.to(device), label)


# ---- passes, as commands ----


def results(folder, kinds):
    return {(kind, p.stem): np.asarray(Image.open(p)) for kind in kinds for p in sorted((folder / kind).glob("*.png"))}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Six pictures of three sizes, cut from photographs."""
    from skimage import data

    folder = tmp_path_factory.mktemp("pictures")
    cat, rocket = data.chelsea(), data.rocket()
    for i, (part, size) in enumerate(
        [(cat, (120, 80)), (rocket, (80, 120)), (cat[:, ::-1], (120, 80)), (rocket, (130, 90)), (cat, (80, 120)),
         (rocket, (120, 80))]
    ):  # fmt: skip
        Image.fromarray(np.ascontiguousarray(part[i : 260 + i])).resize(size).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """A saliency network that has not been trained."""
    file = tmp_path_factory.mktemp("student") / "sal.pth"
    save_checkpoint(file, network_of("efficientnet_lite0", "saliency"))
    return file


def label_with(device, pictures, student, result, *flags):
    """Maps and all labels by the command."""
    makers = [name for name, one in run_sample.PASSES.items() if one.makes and one.on]
    only = [f"--{name}=False" for name in run_sample.PASSES if name not in (*makers, "export")]
    argv = ["--sal_dataset_dir", pictures, "--result_dir", result, "--device", device, "--quiet", *only]
    argv += ["--cam_network", "efficientnet_lite0", "--cam_scales", "1", "0.5", "--sal_weights", student, *flags]
    assert run_passes(run_sample.PASSES, lambda: run_sample.parse([*map(str, argv)])) == 0
    return results(result, ("cam", "cam_pamr", "cam_slic", "sal"))


@pytest.mark.parametrize("recipe", [(), ("--label_recipe", "published", "--cam_class_power", "1")])
def test_maps_and_labels_are_those_of_the_cpu(recipe, pictures, student, tmp_path, gpu):
    expected = label_with("cpu", pictures, student, tmp_path / "cpu", *recipe)
    with gpu() as device:
        got = label_with(device, pictures, student, tmp_path / "gpu", "--side_step", "0", *recipe)
    assert got.keys() == expected.keys() and len(got) == 24
    for key, image in expected.items():
        difference = np.abs(image.astype(int) - got[key])
        assert difference.max() <= (3 if key[0] == "cam" else 255) and (difference > 1).mean() < 0.001, key


def test_pictures_of_many_sizes_come_in_few_shapes(pictures, student, tmp_path, monkeypatch, gpu):
    met = set()
    features = net.CAMNet.features
    monkeypatch.setattr(net.CAMNet, "features", lambda n, img: met.add(tuple(img.shape)) or features(n, img))
    with gpu() as device:
        got = label_with(device, pictures, student, tmp_path, "--cam_infer_batch_size", "2")
    assert len({image.shape for image in got.values()}) == 3
    sides = {(129, 65), (65, 33)}  # at two scales; lying and standing; always two images and their mirrors
    assert met == {(4, 3, *shape) for pair in sides for shape in (pair, pair[::-1])}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A set, and networks that have not been trained."""
    root = tmp_path_factory.mktemp("toy")
    write_toy(root / "data", num_train=3, num_val=2)
    for name, head in (("seam", "seam"), ("aff", "affinity"), ("seg", "deeplabv3")):
        torch.manual_seed(0)
        classes = () if head == "affinity" else CLASS_NAMES
        facts = NetFacts("efficientnet_lite0", len(classes), head=head, class_names=classes)
        save_checkpoint(root / f"{name}.pth", net.build_from(facts).eval())
    return root


def test_starts_of_short_trainings(toy, gpu):
    files = sorted((toy / "data" / "JPEGImages").iterdir())
    data = LabelledImages(files, np.eye(len(files), K, dtype=np.uint8)[::-1], ("a", "b", "c"))
    recipe = Seam(init="prototypes", long_side=(64, 96), crop_size=SIDE)
    starts = []
    with gpu() as device:
        for place in (torch.device("cpu"), device):
            network = network_of("efficientnet_lite0", "seam").to(place)
            train_seam.begin(train_seam.SeamTask(network, data, recipe, SEAMWeights()), 0, None)
            starts.append([network.fc8.weight.detach().cpu(), network.f9.weight.detach().cpu()])
    for one, other in zip(*starts, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-3)


def segment_with(device, toy, result, *flags):
    """All passes of run_voc.py that make files, by the command."""
    only = [f"--{name}={name.removesuffix('_pass').startswith('make')}" for name in run_voc.PASSES]
    argv = ["--data_dir", toy / "data", "--result_dir", result, "--device", device, "--quiet"]
    argv += [
        "--cam_weights",
        toy / "seam.pth",
        "--sem_seg_weights",
        toy / "aff.pth",
        "--make_seg_weights",
        toy / "seg.pth",
    ]
    argv += ["--cam_scales", "1", "0.5", "--seg_scales", "1", "0.5", "--crf_num_iter", "2", "--tensorboard", "False"]
    assert run_passes(run_voc.PASSES, lambda: run_voc.parse([*map(str, [*argv, *only, *flags])])) == 0


def test_class_maps_crf_maps_and_labels_are_those_of_the_cpu(toy, tmp_path, gpu):
    segment_with("cpu", toy, tmp_path / "cpu")
    with gpu() as device:
        segment_with(device, toy, tmp_path / "gpu", "--side_step", "0", "--cam_infer_batch_size", "2")
        segment_with(device, toy, tmp_path / "few")
    for kind in ("cam", "crf_la", "crf_ha"):
        for path in sorted((tmp_path / "cpu" / kind).iterdir()):
            keys = "label" if kind != "cam" else "foreground"
            one, other = (read_prediction(tmp_path / d / kind / path.name, keys=keys) for d in ("cpu", "gpu"))
            assert np.array_equal(one.labels, other.labels)
            assert np.abs(one.scores - other.scores).max() < 0.01
    for kind in ("sem_seg", "seg"):
        expected, got = (results(tmp_path / place, (kind,)) for place in ("cpu", "gpu"))
        assert len(expected) == len(got) > 0
        assert np.mean([(image != got[key]).mean() for key, image in expected.items()]) < 0.001
    assert len(results(tmp_path / "few", ("sem_seg", "seg"))) > 0


def test_trainings_and_all_that_follows(tmp_path, real_gpu):
    """The whole of run_voc.py, short, with backward passes, and gone on with after a kill."""
    root = write_toy(tmp_path / "data", num_train=6, num_val=3)
    argv = [
        "--data_dir",
        root,
        "--seam_network",
        "efficientnet_lite0",
        "--seam_crop_size",
        "64",
        "--aff_crop_size",
        "64",
    ]
    argv += [
        "--seam_long_side",
        "64",
        "96",
        "--seam_view_scale",
        "0.5",
        "--seg_crop_size",
        "64",
        "--seg_num_steps",
        "3",
    ]
    argv += ["--aff_num_epoches", "1", "--seam_num_epoches", "2", "--tensorboard", "False", "--quiet"]
    argv += [f"--{name}_batch_size=2" for name in ("seam", "aff", "seg")]
    with real_gpu() as device:
        argv = [*map(str, [*argv, "--device", device, "--result_dir", tmp_path / "result"])]
        for _ in range(2):  # the second time all is there
            assert run_passes(run_voc.PASSES, lambda: run_voc.parse(argv)) == 0
    assert len(results(tmp_path / "result", ("sem_seg", "seg"))) >= 12


# ---- the pieces ----


def test_colours_of_a_training(photographs, gpu):
    image = torch.from_numpy(photographs.cat[:64, :64].copy()).permute(2, 0, 1)[None]
    steps = color_jitter_steps(photographs.cat, 0.3, 0.1, np.random.default_rng(0))
    given = image, torch.from_numpy(steps)[None], torch.ones(1, 64, 64, dtype=torch.uint8)
    expected = recolored(*given)
    assert (expected != image).float().mean() > 0.9
    with gpu() as device:
        got = recolored(*(one.to(device) for one in given))
        assert got.device == device and (got.cpu().int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize("num_labels", [2, 21])
def test_dense_crf(num_labels, photographs, gpu):
    image = np.ascontiguousarray(photographs.cat[:120, :160])
    prob = np.random.default_rng(0).dirichlet(np.ones(num_labels), (120, 160)).transpose(2, 0, 1).astype(np.float32)
    expected = dense_crf(image, prob, CRF_RECIPES["wsss_cam"])
    with gpu() as device:
        planes = torch.from_numpy(image).permute(2, 0, 1)[None].to(device)
        got = dense_crf_torch(planes, torch.from_numpy(prob)[None].to(device), CRF_RECIPES["wsss_cam"])
        assert got.device == device
        assert np.abs(got[0].cpu().numpy() - expected).max() < 1e-4


def test_pamr(photographs, gpu):
    image, saliency = photographs.coffee[:200, :301], photographs.coffee[:200, :301, 0] / np.float32(255)
    expected = refine_saliency(image, saliency)
    with gpu() as device:
        planes = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].to(device)
        got = refine_saliency_torch(planes, torch.from_numpy(saliency)[None].to(device))
        assert got.device == device
        assert np.abs(got[0].cpu().numpy() - expected).max() < 1e-4


def test_random_walk(gpu):
    generator = torch.Generator().manual_seed(0)
    cam = torch.rand(4, 30, 40, generator=generator)
    values = torch.rand(pair_indices(RADIUS, (30, 40))[1].shape, generator=generator)
    expected = random_walk(cam, values)
    with gpu() as device:
        got = random_walk(cam.to(device), values.to(device))
        assert got.device == device
        assert (got.cpu() - expected).abs().max() < 1e-5
