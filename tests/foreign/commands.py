"""The commands as a person enters them, in this process, on small pictures of their own."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

import run_sample
import run_slic
import run_voc
from misc.run.passes import run_passes
from step import eval as saliency_eval
from step import eval_sem_seg, export

FAST = ("--cam_network", "efficientnet_lite0", "--cam_scales", "0.5", "--label_pamr_num_iter", "1", "--device", "cpu")
FAST += ("--make_slic_pass", "False", "--make_sal_pass", "False")
MAPS_ALONE = (
    "--make_label_pass",
    "False",
    "--eval_pass",
    "False",
    "--overview_pass",
    "False",
    "--report_pass",
    "False",
)


def words(*argv):
    return ["--quiet", *map(str, argv)]


def sample(*argv):
    return run_passes(run_sample.PASSES, lambda: run_sample.parse(words(*FAST, *argv)))


def slic(*argv):
    return run_passes(run_slic.PASSES, lambda: run_slic.parse(words(*argv)))


def voc(*argv, passes=("train_seam_pass",)):
    argv = ("--seam_network", "efficientnet_lite0", "--device", "cpu", *argv)
    return run_passes({name: run_voc.PASSES[name] for name in passes}, lambda: run_voc.parse(words(*argv)))


def score(*argv):
    return saliency_eval.main(words(*argv))


def score_classes(*argv):
    return eval_sem_seg.main(words(*argv))


def export_labels(*argv):
    return export.main(words(*argv))


def written(out):
    """The row of the one folder that an evaluator scored."""
    (row,) = json.loads(Path(out).read_text(encoding="utf-8")).values()
    return row


def failed(result):
    with (result / "failed.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as f:
        return {(row["step"], Path(row["file"]).name): row["reason"] for row in csv.DictReader(f)}


def names(folder, suffix=".png"):
    """Paths below folder, without suffix."""
    return sorted(p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob(f"*{suffix}"))


def picture(seed=0, size=(48, 64)):
    """(H,W,3) uint8: a bright disc on dull noise."""
    rng = np.random.default_rng(seed)
    image = rng.integers(40, 90, (*size, 3), dtype=np.uint8)
    image[disc(size)] += np.uint8(120)
    return image


def disc(size=(48, 64)):
    y, x = np.ogrid[: size[0], : size[1]]
    return (y - size[0] / 2) ** 2 + (x - size[1] / 2) ** 2 < (min(size) / 3) ** 2


def save(path, array, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **kwargs)
    return path


def photos(folder, *files):
    for i, file in enumerate(files):
        save(folder / file, picture(i))
    return folder


def one_error(capsys):
    """The one line of an error."""
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1, error
    return error
