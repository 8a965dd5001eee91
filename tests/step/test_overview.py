"""The contact sheet of a run."""

from PIL import Image

import run_sample
from misc.run.failures import Failures
from step import overview


def test_an_image_with_a_damaged_label_is_listed_and_the_others_are_shown(tmp_path, photographs):
    for name, photo in vars(photographs).items():
        pictures = {"set/images": Image.fromarray(photo[:60, :80]), "r/cam": Image.fromarray(photo[:60, :80, 0])}
        for folder, picture in {**pictures, "r/cam_pamr": pictures["r/cam"]}.items():
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            picture.save(tmp_path / folder / f"{name}.png")
    damaged = tmp_path / "r/cam_pamr/cat.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    flags = {"--sal_dataset_dir": tmp_path / "set", "--result_dir": tmp_path / "r", "--overview_rows": 3}
    args = run_sample.parse([str(word) for pair in flags.items() for word in pair])
    failures = Failures(tmp_path / "failed.csv")
    overview.run(args, failures)
    assert tmp_path / "set/images/cat.png" in failures and tmp_path / "set/images/coffee.png" not in failures
    assert Image.open(tmp_path / "r/overview.png").size == (3 * (200 + 6) + 6, 26 + 2 * (150 + 6))
