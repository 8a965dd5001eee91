"""The second half of run_voc.py on a few toy pictures, whose CAMs are made of their masks."""

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import run_voc
from data.datasets import DatasetSpec
from data.toy import write_toy
from misc.files.images import read_image, read_named
from misc.files.predictions import Cams, read_prediction
from misc.files.store import write_cams
from misc.run import device
from misc.run.passes import run_passes
from misc.train.loop import Optimization, factor_groups, make_optimizer, set_learning_rate
from net import build, build_from
from net.affinitynet import affinity
from net.network import NetFacts, parameter_groups
from net.prototypes import class_prototypes, fitted
from net.weights import load_backbone, read_checkpoint, save_checkpoint
from pgt.affinity import affinity_labels, affinity_loss, block_mean, confident_label, pair_indices, walk_labels
from pgt.crf import CRF_RECIPES, dense_crf
from step import make_seg, make_sem_seg, train_aff, train_seg
from step.classes import at_scales
from step.sets import open_all, open_train

SECOND_HALF = ("train_aff", "make_sem_seg", "train_seg", "make_seg")
SMALL = ["--seam_network", "efficientnet_lite0", "--device", "cpu", "--quiet", "--tensorboard", "False"]
SMALL += ["--aff_crop_size", "64", "--aff_batch_size", "2", "--aff_num_epoches", "1", "--num_workers", "1"]
SMALL += ["--seg_crop_size", "64", "--seg_batch_size", "2", "--seg_num_steps", "3", "--seg_scales", "0.5", "1.0"]
SPEC = DatasetSpec("toy", ("a", "b", "c", "d", "e", "f"))


def flags(root, *argv):
    only = [
        f"--{name.removesuffix('_pass')}_pass=False"
        for name in run_voc.PASSES
        if name.removesuffix("_pass") not in argv
    ]
    given = [str(word) for word in argv if word not in SECOND_HALF]
    return [*SMALL, "--data_dir", str(root / "data"), "--result_dir", str(root / "result"), *only, *given]


def parse(root, *argv):
    return run_voc.parse(flags(root, *argv))


def run(root, *argv):
    return run_passes(run_voc.PASSES, lambda: parse(root, *argv))


def make_maps(args):
    """CAMs and CRF maps as they might be: the mask, blurred."""
    images = open_all(args)
    for name, own in zip(images.names, images.labels, strict=True):
        mask = np.asarray(Image.open(args.data_dir / "SegmentationClass" / f"{name}.png"))
        keys = np.flatnonzero(own)
        cam = np.stack([cv2.GaussianBlur((mask == key + 1).astype(np.float32), (0, 0), 3) for key in keys])
        cam /= cam.max((1, 2), keepdims=True)
        write_cams(args.result_dir / "cam" / f"{name}.npz", keys, cam)
        for folder, alpha in (("crf_la", 1), ("crf_ha", 24)):
            scores = np.concatenate([(1 - cam.max(0, keepdims=True)) ** alpha, cam])
            write_cams(args.result_dir / folder / f"{name}.npz", np.append(0, keys + 1), scores)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with 4 + 2 toy pictures, after the whole second half."""
    root = tmp_path_factory.mktemp("second_half")
    write_toy(root / "data", 4, 2, seed=5)
    make_maps(parse(root))
    assert run(root, *SECOND_HALF) == 0
    return root


@pytest.fixture
def fresh(trained, tmp_path):
    """A copy of it that a test may spoil."""
    shutil.copytree(trained, tmp_path / "copy")
    return tmp_path / "copy"


def label(path):
    with Image.open(path) as picture:
        assert picture.mode == "P"
        return np.asarray(picture)


def test_the_second_half_writes_what_it_says(trained):
    args, result = parse(trained), trained / "result"
    assert sorted(p.name for p in (result / "ckpt").glob("*.pth")) == ["aff.pth", "seg.pth"]
    images = open_all(args)
    assert len(images) == 6 and len(list((result / "sem_seg").iterdir())) == 6
    for name, file, own in zip(images.names, images.files, images.labels, strict=True):
        found = label(result / "sem_seg" / f"{name}.png")
        assert found.shape == Image.open(file).size[::-1] and set(np.unique(found)) <= {0, *(np.flatnonzero(own) + 1)}
        truth = label(args.data_dir / "SegmentationClass" / f"{name}.png")
        sure = truth != 255
        assert (found == truth)[sure].mean() > 0.85  # CAMs made of masks have to give masks
    assert [p.stem for p in sorted((result / "seg").iterdir())] == ["toy_00004", "toy_00005"]
    for path in (result / "seg").iterdir():
        assert label(path).max() <= 6 and label(path).shape == label(result / "sem_seg" / path.name).shape
    assert (result / "train_aff.csv").is_file() and (result / "train_seg.csv").is_file()


def test_labels_that_are_up_to_date_stay_and_others_are_made_anew(fresh):
    files = sorted((fresh / "result").glob("s*eg/*.png"))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    files[0].write_bytes(files[0].read_bytes()[:200])
    files[-1].unlink()
    assert run(fresh, "make_sem_seg", "make_seg") == 0
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    assert [p for p in files if after[p] != before[p]] == [files[0], files[-1]]
    assert all(after[path][0] == before[path][0] for path in files)
    assert run(fresh, "make_sem_seg", "--sem_seg_crf", "False") == 0
    assert any(path.read_bytes() != before[path][0] for path in files)


def test_a_result_folder_that_was_moved_goes_on(fresh, tmp_path):
    """The network that a training starts from lies in the result folder too."""
    ckpt, moved = fresh / "result" / "ckpt", tmp_path / "moved"
    classes = tuple(open_all(parse(fresh)).class_names)
    save_checkpoint(ckpt / "seam.pth", build("efficientnet_lite0", len(classes), head="seam", class_names=classes))
    assert run(fresh, "train_aff", "--aff_weights", "seam", "--resume", "False") == 0
    expected = read_checkpoint(ckpt / "aff.pth").state_dict()
    fresh.rename(moved)
    assert run(moved, "train_aff", "--aff_weights", "seam") == 0
    found = read_checkpoint(moved / "result" / "ckpt" / "aff.pth").state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_sem_seg_is_the_composition_of_its_parts(trained):
    args = parse(trained)
    images, recipe = open_all(args), args.sem_seg
    name, image = images.names[0], read_named(images.files[0])
    network = read_checkpoint(trained / "result" / "ckpt" / "aff.pth")
    cams = read_prediction(trained / "result" / "cam" / f"{name}.npz")
    with torch.no_grad():
        features = network(torch.from_numpy(image.copy()).permute(2, 0, 1)[None])
        values = affinity(features, *pair_indices(5, features.shape[2:]))[0]
        scores = walk_labels(torch.from_numpy(cams.scores), cams.labels, values)[0].numpy()
    prob = dense_crf(image, scores / scores.sum(0), CRF_RECIPES["wsss_cam"])
    expected = np.append(0, cams.labels)[prob.argmax(0)]
    assert (label(trained / "result" / "sem_seg" / f"{name}.png") == expected).mean() > 0.999
    embed = make_sem_seg.embedder(network, network.device)
    walk = make_sem_seg.walker(embed, recipe, 1024)
    plain = make_sem_seg.pseudo_scores(image, cams, walk, replace(recipe, crf=None), 1024)
    np.testing.assert_allclose(plain, scores / scores.sum(0), atol=1e-4)
    smaller = make_sem_seg.pseudo_scores(image, cams, make_sem_seg.walker(embed, recipe, 64), recipe, 64)
    assert smaller.shape == plain.shape and (smaller.argmax(0) == plain.argmax(0)).mean() > 0.8
    nothing = Cams(np.zeros(0, np.int64), np.zeros((0, 0, 0), np.float32))
    assert (make_sem_seg.pseudo_scores(image, nothing, walk, recipe, 1024) == np.ones((1, *image.shape[:2]))).all()
    alone = make_sem_seg.pseudo_scores(image, cams, None, replace(recipe, crf=None), 1024)
    background = (1 - cams.scores.max(0, keepdims=True)) ** recipe.alpha
    expected = np.concatenate([background, cams.scores])
    np.testing.assert_allclose(alone, expected / expected.sum(0), atol=1e-5)
    surer = make_sem_seg.pseudo_scores(image, cams, None, replace(recipe, crf=None, power=2), 1024)
    np.testing.assert_allclose(surer, alone**2 / (alone**2).sum(0), atol=1e-5)


def test_soft_scores_and_void_where_labels_are_not_sure(fresh):
    assert run(fresh, "make_sem_seg", "--sem_seg_soft", "--sem_seg_confidence", "0.9") == 0
    for path in (fresh / "result" / "sem_seg").iterdir():
        soft = read_prediction(fresh / "result" / "sem_seg_soft" / f"{path.stem}.npz", keys="label")
        assert soft.has_background and abs(soft.scores.sum(0) - 1).max() < 0.02
        sure = np.abs(soft.scores.max(0) - 0.9) > 0.01  # soft scores are stored in 8 bits
        best = soft.labels[soft.scores.argmax(0)]
        trusted = label(fresh / "result" / "sem_seg_sure" / path.name)
        assert (trusted == np.where(soft.scores.max(0) < 0.9, 255, best))[sure].all() and (trusted == 255).any()
        assert (label(path) != 255).all() and (label(path) == trusted)[trusted != 255].all()


def test_labels_of_a_map():
    scores = np.array([[[0.6, 0.2, 0.5]], [[0.4, 0.8, 0.5]]], np.float32)
    assert make_sem_seg.label_map(scores, [0, 7], 0.0).tolist() == [[0, 7, 0]]
    assert make_sem_seg.label_map(scores, [0, 7], 0.55).tolist() == [[0, 7, 255]]


@pytest.mark.parametrize("jitter", [0, 30])
def test_image_and_label_go_together(jitter):
    """A picture that shows its label: whatever is done to one is done to the other."""
    label = np.zeros((90, 120), np.uint8)
    label[20:70, 10:50], label[40:80, 70:110] = 1, 2
    image = np.stack([label * 100, 255 - label * 100, np.full_like(label, 90)], 2)
    recipe = run_voc.Seg(crop_size=96, scale=(0.5, 1.5), hsv_jitter=jitter)
    flipped = set()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, y = train_seg.augmented(image, label, recipe, (200, 200, 200), 255, rng)
        assert x.shape == (96, 96, 3) and x.dtype == np.uint8 and y.shape == (96, 96)
        inside = (
            cv2.erode((y == 1).astype(np.uint8), np.ones((9, 9)), borderValue=0),
            cv2.erode((y == 2).astype(np.uint8), np.ones((9, 9)), borderValue=0),
        )
        for k, at in enumerate(inside, 1):
            assert np.abs(x[at == 1][:, 0].astype(int) - 100 * k).max(initial=0) <= (2 if not jitter else 60)
        outside = cv2.erode((y == 255).astype(np.uint8), np.ones((3, 3)), borderValue=0)
        assert (x[outside == 1] == 200).all()
        if (y == 1).any() and (y == 2).any():
            flipped.add(np.argwhere(y == 1)[:, 1].mean() > np.argwhere(y == 2)[:, 1].mean())
    assert flipped == {True, False}


def test_colors_changed_on_the_device_with_any_number_of_workers(fresh, monkeypatch):
    monkeypatch.setitem(device._FACTS, "cpu", device.DeviceFacts(spares_readers=True))
    file = fresh / "result" / "ckpt" / "seg.pth"
    weights = [read_checkpoint(file).state_dict()]
    for workers in (1, 3):
        assert run(fresh, "train_seg", "--resume", "False", "--num_workers", workers) == 0
        weights.append(read_checkpoint(file).state_dict())
    cpu, one, three = weights
    assert all(torch.equal(one[name], three[name]) for name in one)
    assert any(not torch.equal(cpu[name], one[name]) for name in one)
    assert all(torch.allclose(cpu[name].float(), one[name].float(), atol=0.02) for name in one)


def test_image_and_crf_maps_go_together():
    mask = np.zeros((80, 100), np.float32)
    mask[20:60, 10:50] = 1
    image = np.repeat((255 * mask).astype(np.uint8)[..., None], 3, 2)
    maps = np.stack([1 - mask, mask])
    recipe = run_voc.Aff(crop_size=64, long_side=(80, 140), jitter=0.0, hue=0.0)
    for seed in range(10):
        x, la, ha = train_aff.augmented(image, maps, maps, recipe, (7, 7, 7), np.random.default_rng(seed))
        assert x.shape == (64, 64, 3) and la.shape == (2, 64, 64) and (la == ha).all()
        inside = la.sum(0) > 0.99
        assert np.abs(x[..., 0] / 255 - la[1])[inside].mean() < 0.02 and (x[la.sum(0) == 0] == 7).all()


def test_affinity_task_is_the_composition_of_its_parts(trained):
    args = parse(trained)
    images = open_train(args).images
    recipe = run_voc.Aff(crop_size=128, jitter=0.0, hue=0.0)
    torch.manual_seed(0)
    task = train_aff.AffTask(build("efficientnet_lite0", 0, head="affinity").eval(), images,
                             train_aff.crf_maps(images.names, args.result_dir), recipe)  # fmt: skip
    samples = [task.sample(i, np.random.default_rng(i)) for i in range(2)]
    x, y = (np.stack(arrays) for arrays in zip(*samples, strict=True))
    assert y.shape == (2, 16, 16) and set(np.unique(y)) <= {0, 1, 2, 3, 255} and (y > 0).any() and (y == 0).any()
    maps = [read_prediction(path, "label").scores for path in task.maps[0]]
    if samples[0][0].shape[0] == 128:  # the whole image, somewhere in the crop: as many sure cells, but for its border
        whole = confident_label(*(block_mean(torch.from_numpy(m)) for m in maps)).numpy()
        assert abs((whole == 0).sum() - (y[0] == 0).sum()) < 60
    img = torch.from_numpy(x).permute(0, 3, 1, 2)
    parts = task.loss(img, torch.from_numpy(y))
    values = affinity(task.net(img), *pair_indices(5, (16, 16)))
    kinds = [torch.stack([affinity_labels(one)[k] for one in y]) for k in range(3)]
    assert torch.allclose(parts["loss"], affinity_loss(values, *kinds)) and parts["loss"].item() > 0
    assert parts["sure"].item() == pytest.approx((y != 255).mean())


def test_learning_rates_are_the_published(golden):
    """adjust_lr of HFPL's train_final: 21 steps for a maximum of 20."""
    expected = golden("hfpl_final_adjust_lr")["lr_21_steps_max20_init0p001_power0p9"]
    network = build_from(NetFacts("resnet38", 1, head="largefov"))
    for module in network.modules():  # a bias in the backbone, so that there are four groups
        if isinstance(module, torch.nn.Conv2d):
            module.bias = torch.nn.Parameter(torch.zeros(module.out_channels))
            break
    how = Optimization(learning_rate=0.001)
    optimizer = make_optimizer(factor_groups(parameter_groups(network)), how)
    for step, row in enumerate(expected):
        set_learning_rate(optimizer, how, step, len(expected))
        np.testing.assert_allclose([group["lr"] for group in optimizer.param_groups], row, rtol=1e-5)
    assert run_voc.parse(["--voc12_root", "x"]).seg_num_steps == 20000 + 1


def test_mirror_and_scales_of_the_final_network(photographs):
    torch.manual_seed(0)
    network = build_from(NetFacts("efficientnet_lite0", 3, head="largefov")).eval()
    load_backbone(network, None, progress=False)
    image = cv2.resize(photographs.cat, (90, 70))
    with torch.no_grad():
        logits = make_seg.multi_scale_logits(network, image, [1.0, 0.5])
        mirrored = make_seg.multi_scale_logits(network, image[:, ::-1], [1.0, 0.5]).flip(2)
        single = make_seg.multi_scale_logits(network, image, [1.0])
        img = torch.from_numpy(image).permute(2, 0, 1)[None]
        expected = (network(img) + network(img.flip(3)).flip(3))[0] / 2
    assert logits.shape == (4, 70, 90)
    torch.testing.assert_close(logits, mirrored, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(single, expected, rtol=1e-4, atol=1e-4)
    assert single.std(dim=(1, 2)).min() > 0.01 and (logits - single).abs().max() > 0.01


def test_rare_classes_do_not_matter_to_the_crf(photographs):
    rng = np.random.default_rng(0)
    image = cv2.resize(photographs.coffee, (60, 40))
    logits = cv2.GaussianBlur(rng.normal(0, 1, (40, 60, 6)).astype(np.float32), (0, 0), 6) * 30
    logits[..., 3:] -= 20
    prob = torch.from_numpy(logits).softmax(2).numpy().transpose(2, 0, 1).copy()
    crf = CRF_RECIPES["wsss_seg"]
    found, expected = make_seg.refined(image, prob, crf), dense_crf(image, prob, crf)
    assert (found.argmax(0) == expected.argmax(0)).mean() > 0.999 and (found.argmax(0) != prob.argmax(0)).any()
    one = np.zeros_like(prob)
    one[2] = 1
    assert (make_seg.refined(image, one, crf) == one).all()


def test_a_folder_of_pictures_needs_a_checkpoint_alone(trained, tmp_path, photographs, capsys):
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    Image.fromarray(photographs.cat).resize((80, 60)).save(tmp_path / "photos" / "cat.png")
    Image.fromarray(photographs.coffee).convert("L").resize((50, 70)).save(tmp_path / "photos" / "sub" / "gray.jpg")
    weights = trained / "result" / "ckpt" / "seg.pth"
    command = ["--make_seg_weights", weights, "--image_dir", tmp_path / "photos", "--result_dir", tmp_path]
    command += ["--seg_scales", 1, "--device", "cpu", "--quiet"]
    assert make_seg.main([str(word) for word in command]) == 0
    assert label(tmp_path / "seg" / "cat.png").shape == (60, 80)
    assert label(tmp_path / "seg" / "sub" / "gray.png").shape == (70, 50)
    (tmp_path / "photos" / "bad.png").write_bytes(b"no picture")
    assert make_seg.main([str(word) for word in command]) == 1
    assert "bad.png" in capsys.readouterr().err
    command[1] = trained / "result" / "ckpt" / "aff.pth"
    assert make_seg.main([str(word) for word in command]) == 2
    assert "SegNet is needed" in capsys.readouterr().err


def refused(root, capsys, *argv):
    assert run(root, *argv) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_bad_input_is_one_line(fresh, capsys):
    result = fresh / "result"
    (result / "crf_la" / "toy_00002.npz").unlink()
    assert "toy_00002.npz" in refused(fresh, capsys, "train_aff")
    (result / "cam" / "toy_00001.npz").unlink()
    assert "cam/toy_00001.npz" in refused(fresh, capsys, "make_sem_seg").replace("\\", "/")
    (result / "sem_seg" / "toy_00003.png").unlink()
    assert "toy_00003.png" in refused(fresh, capsys, "train_seg")
    assert "--seg_network nothing_64" in refused(fresh, capsys, "train_seg", "--seg_network", "nothing_64")
    assert "--aff_weights FILE" in refused(fresh, capsys, "train_aff", "--aff_network", "resnet38")
    (result / "ckpt" / "seg.pth").unlink()
    assert "run train_seg" in refused(fresh, capsys, "make_seg")
    assert "nowhere.txt" in refused(fresh, capsys, "make_seg", "--seg_splits", "nowhere")


def test_damaged_files_are_listed_or_stop_a_training(fresh, capsys):
    result = fresh / "result"
    (result / "cam" / "toy_00001.npz").write_bytes(b"PK no zip")
    assert run(fresh, "make_sem_seg") == 1
    assert "toy_00001" in (result / "failed.csv").read_text(encoding="utf-8")
    write_cams(result / "cam" / "toy_00001.npz", np.array([0]), np.ones((1, 5, 5)))
    assert run(fresh, "make_sem_seg") == 1
    shutil.rmtree(result / "ckpt" / "train_seg")
    Image.fromarray(np.full((9, 9), 1, np.uint8)).save(result / "sem_seg" / "toy_00000.png")
    capsys.readouterr()
    assert "toy_00000.png" in refused(fresh, capsys, "train_seg")


def test_other_labels_are_another_training(fresh, capsys):
    weights = fresh / "result" / "ckpt" / "seg.pth"
    before = weights.read_bytes()
    assert run(fresh, "train_seg", "train_aff") == 0 and weights.read_bytes() == before
    changed = fresh / "result" / "sem_seg" / "toy_00000.png"
    Image.fromarray(np.zeros_like(label(changed))).save(changed)
    capsys.readouterr()
    assert "--resume False" in refused(fresh, capsys, "train_seg")
    assert run(fresh, "train_seg", "--resume", "False") == 0 and weights.read_bytes() != before
    maps = fresh / "result" / "crf_ha" / "toy_00000.npz"
    shutil.copy(maps.with_name("toy_00001.npz"), maps)
    capsys.readouterr()
    assert "--resume False" in refused(fresh, capsys, "train_aff")


def test_a_training_may_start_from_the_cam_network(fresh, capsys):
    args = ["--resume", "False", "--seg_weights", "seam", "--seg_num_steps", "1", "--seg_learning_rate", "1e-9"]
    assert "seam.pth is missing" in refused(fresh, capsys, "train_seg", *args)
    network = build("efficientnet_lite0", 6, head="seam")
    save_checkpoint(fresh / "result" / "ckpt" / "seam.pth", network)
    assert run(fresh, "train_seg", *args) == 0
    trained = read_checkpoint(fresh / "result" / "ckpt" / "seg.pth")
    for name, weight in network.backbone.named_parameters():
        torch.testing.assert_close(trained.backbone.get_parameter(name), weight, atol=1e-5, rtol=0)


def test_fixed_classes_are_those_of_what_the_trained_decoder_finds(fresh):
    argv = ["--resume", "False", "--seg_head", "objects", "--seg_fix_classes", "--seam_init", "prototypes"]
    assert run(fresh, "train_seg", *argv, "--seg_optimizer", "adamw", "--seg_learning_rate", "1e-3") == 0
    trained, data = read_checkpoint(fresh / "result" / "ckpt" / "seg.pth").eval(), open_train(parse(fresh)).images
    head, features = trained.head, []
    with torch.no_grad():
        for file in data.files:
            for level in at_scales((0.5, 1.0), 1024, 0)(read_image(file)):
                img = trained.normalised(torch.from_numpy(level.copy()).permute(2, 0, 1)[None])
                features.append(head.mean_feature(trained.backbone.all_taps(img))[0])
    label = torch.from_numpy(data.labels.repeat(2, 0))
    rows = class_prototypes(torch.stack(features), label)
    weights, bias = fitted(rows, torch.stack(features), label)
    for found, expected in ((head.classifier.weight, rows), (head.image.weight, weights)):
        torch.testing.assert_close(found[:, :, 0, 0], expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(head.image.bias.detach(), bias, rtol=0.05, atol=0.05)


def test_values_that_are_no_label(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(np.array([[0, 6, 255]], np.uint8)).save(path)
    assert train_seg.read_pseudo_label(path, (1, 3), SPEC).tolist() == [[0, 6, 255]]
    Image.fromarray(np.array([[0, 7, 255]], np.uint8)).save(path)
    for size in ((1, 3), (3, 1)):
        with pytest.raises(OSError, match=r"x\.png"):
            train_seg.read_pseudo_label(path, size, SPEC)


def test_crf_maps_of_an_image_without_a_class(tmp_path):
    path = tmp_path / "x.npz"
    write_cams(path, np.array([0]), np.ones((1, 4, 6)))
    assert (train_aff.read_maps(path, (4, 6)) == 1).all()
    with pytest.raises(OSError, match="width, height"):
        train_aff.read_maps(path, (6, 4))
    write_cams(path, np.array([3]), np.ones((1, 4, 6)))
    with pytest.raises(OSError, match="no CRF map"):
        train_aff.read_maps(path, (4, 6))


def test_few_images_get_fewer_steps():
    recipe = run_voc.parse(["--preset", "small"]).seg
    assert train_seg.at_most_epoches(recipe, 30, 30.0).num_steps == round(30 * 30 / 8)
    assert train_seg.at_most_epoches(recipe, 140, 30.0) == recipe == train_seg.at_most_epoches(recipe, 1, 0.0)
    assert train_seg.at_most_epoches(recipe, 1, 0.01).num_steps == 1
    assert run_voc.parse([]).seg_most_epoches == 0  # as published
