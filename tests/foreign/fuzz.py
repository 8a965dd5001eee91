"""Mutated files of other people, through the commands: each is in the outputs, in failed.csv, or counted by its kind;
none ends or hangs a run, takes the memory, or runs a payload.

    python -m tests.foreign.fuzz                            all kinds, as many files as COUNTS says
    python -m tests.foreign.fuzz exif --times 10 --seed 7   ten times as many of one kind

Bases: a JPEG, a PNG, a palette PNG, a GIF, a WebP and a TIFF of 64 x 48; masks of them; label maps and CAMs as .png,
.npy and .npz. Mutators: flipped bits, cuts, zero tails, doubled and swapped pieces, large numbers, headers of
archives, payloads, wrong suffixes; spliced and random EXIF; entries that are no files, and names of every sort. Kills
come while a file is being written.
"""

import argparse
import csv
import io
import json
import os
import pickle
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from tests.foreign.commands import FAST, MAPS_ALONE, disc, names, picture, save, words

ROOT = Path(__file__).resolve().parents[2]
COUNTS = {"pictures": 2000, "exif": 8000, "results": 2400, "arrays": 600, "predictions": 300, "masks": 100,
          "entries": 60, "kills": 25, "class_kills": 10}  # fmt: skip
MOST_MEMORY = 2.5e9  # bytes
HEADERS = (b"PK\x03\x04", b"\x1f\x8b\x08", b"Rar!\x1a\x07", b"%PDF-1.7", b"<!DOCTYPE html>", b"\x89PNG\r\n\x1a\n")
SECOND_HALF = ("train_aff", "make_sem_seg", "eval_sem_seg", "train_seg", "make_seg", "eval_seg")
SAMPLE = (*FAST, "--overview_rows", "3")


PAYLOAD_RAN = Path(tempfile.gettempdir()) / "payload_ran"


class Payload:
    """Leaves a file where somebody unpickles it."""

    def __reduce__(self):
        return open, (str(PAYLOAD_RAN), "w")


PAYLOAD = pickle.dumps(Payload())


# mutators: bytes -> bytes


def flip(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 20))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def cut(rng, data):
    return data[: rng.randrange(len(data) + 1)]


def zero_tail(rng, data):
    at = rng.randrange(len(data) + 1)
    return data[:at] + bytes(len(data) - at)


def splice(rng, data):
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return rng.choice((data[:a] + data[a:b] * 2 + data[b:], data[:a] + data[b:], data[b:] + data[a:b] + data[:a]))


def number(rng, data):
    """A number anywhere becomes very large, or negative."""
    at = rng.randrange(max(1, len(data) - 4))
    odd = rng.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0"))
    return data[:at] + odd + data[at + 4 :]


def archive(rng, data):
    return rng.choice(HEADERS) + data[rng.randrange(12) :]


def payload(rng, data):
    return PAYLOAD if rng.random() < 0.5 else data[:128] + PAYLOAD


MUTATORS = (flip, cut, zero_tail, splice, number, archive, payload)


def mutated(rng, data):
    for _ in range(rng.choice((1, 1, 2))):
        data = rng.choice(MUTATORS)(rng, data)
    return data


# bases


def encoded(array, kind, **kwargs):
    held = io.BytesIO()
    Image.fromarray(array).save(held, kind, **kwargs)
    return held.getvalue()


def pictures():
    image = picture()
    palette = io.BytesIO()
    Image.fromarray(image).convert("P").save(palette, "PNG")
    kinds = {".jpg": "JPEG", ".png": "PNG", ".gif": "GIF", ".webp": "WEBP", ".tif": "TIFF"}
    return {**{suffix: encoded(image, kind) for suffix, kind in kinds.items()}, ".PNG": palette.getvalue()}


def exif_block(rng):
    """A TIFF of tags, spliced, flipped or of noise."""
    tags = [(0x0112, 3, 1, rng.randrange(10) << 16)]
    others = 0x011A, 0x011B, 0x8769, 0x8825, 0xA005, 0x927C, 0x0132, 0x010F, 0x501B, 0x9286
    for tag in rng.sample(others, rng.randrange(6)):
        tags.append((tag, rng.randrange(14), rng.choice((1, 2, 5, 2**16, 2**31 - 1)), rng.randrange(2**32)))
    order = rng.choice((b"MM", b"II"))
    ends = "big" if order == b"MM" else "little"
    held = order + (42).to_bytes(2, ends) + (8).to_bytes(4, ends) + len(tags).to_bytes(2, ends)
    for tag, kind, count, value in tags:
        held += tag.to_bytes(2, ends) + kind.to_bytes(2, ends) + count.to_bytes(4, ends) + value.to_bytes(4, ends)
    held += bytes(4) + bytes(rng.randrange(256) for _ in range(rng.randrange(60)))
    held = rng.choice((held, held, flip(rng, held), cut(rng, held), splice(rng, held), number(rng, held)))
    return b"Exif\0\0" + held


def predictions():
    """Label maps and CAMs of every kind."""
    label, cam = disc().astype(np.uint8), np.float32(disc())[None]
    arrays = {}
    for suffix, write in (
        (".png", lambda f: Image.fromarray(label).save(f, "PNG")),
        (".npz", lambda f: np.savez_compressed(f, keys=[0], cam=cam)),
        (".npy", lambda f: np.save(f, {0: cam[0]}, allow_pickle=True)),
    ):
        write(held := io.BytesIO())
        arrays[suffix] = held.getvalue()
    return arrays


# runs


def run(script, *argv, timeout=1800, allowed=(0, 1)):
    """The command, in a process of its own -> what it printed. Raises where it ends otherwise than it may."""
    command = [sys.executable, *(("-m", script) if "." in script else (f"{script}.py",)), *words(*argv)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=timeout, check=False)
    out, error = done.stdout.decode(errors="surrogateescape"), done.stderr.decode(errors="surrogateescape")
    assert done.returncode in allowed and "Traceback" not in error, (done.returncode, error[-3000:])
    assert not PAYLOAD_RAN.exists(), "a payload ran"
    return out, error


def listed(result):
    path = result / "failed.csv"
    if not path.is_file():
        return Counter()
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as f:
        return Counter((row["step"], row["file"]) for row in csv.DictReader(f))


def account(folder, result, out, files, kind="cam"):
    """Every file is in the outputs, in failed.csv, or counted: -> how many of each. By the names of outputs."""
    bad = {file for _, file in listed(result)}
    made = set(names(result / kind))
    labelled = {f for f in files if f.relative_to(folder).with_suffix("").as_posix() in made and f.suffix}
    failed = {f for f in files if str(f) in bad} - labelled
    passed = sum(map(int, re.findall(r"(\d+) [^,]+", next(iter(re.findall("passed over: (.*)", out)), ""))))
    assert len(labelled) + len(failed) + passed >= len(files), (len(files), len(labelled), len(failed), passed)
    return {"labelled": len(labelled), "failed": len(failed), "passed over": passed}


def fuzz_pictures(rng, place, count):
    folder, bases = place / "set", pictures()
    folder.mkdir()
    for i in range(count):
        suffix = rng.choice(list(bases))
        wrong = rng.choice(list(bases)) if rng.random() < 0.1 else suffix
        (folder / f"{i}{wrong}").write_bytes(mutated(rng, bases[suffix]))
    files = list(folder.iterdir())
    out, _ = run("run_sample", folder, "--result_dir", place / "r", *SAMPLE, "--export", "coco")
    return account(folder, place / "r", out, files)


def fuzz_exif(rng, place, count):
    folder = place / "set"
    folder.mkdir()
    plain = pictures()
    for i in range(count):
        suffix, kind = rng.choice(((".jpg", "JPEG"), (".png", "PNG"), (".webp", "WEBP")))
        data = encoded(picture(), kind, exif=exif_block(rng)) if suffix != ".jpg" or i % 2 else plain[".jpg"]
        (folder / f"{i}{suffix}").write_bytes(flip_exif(rng, data, i))
    files = list(folder.iterdir())
    out, _ = run("run_sample", folder, "--result_dir", place / "r", *FAST, *MAPS_ALONE, "--export", "coco")
    return account(folder, place / "r", out, files)


def flip_exif(rng, data, i):
    """An EXIF block of its own put into a JPEG that has none."""
    if data[:2] != b"\xff\xd8" or i % 2:
        return data
    block = exif_block(rng)
    return data[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + data[2:]


def fuzz_results(rng, place, count):
    """Maps and labels that were mutated are made anew, to the same bytes."""
    num = max(2, min(150, count // 2))
    for i in range(num):
        save(place / "set" / f"{i}.png", picture(i))
    argv = ("run_sample", place / "set", "--result_dir", place / "r", *SAMPLE)
    run(*argv)
    whole = {p: p.read_bytes() for kind in ("cam", "cam_pamr") for p in (place / "r" / kind).glob("*.png")}
    return made_anew(rng, whole, count, lambda: run(*argv))


def fuzz_arrays(rng, place, count):
    import torch

    import net
    from data.toy import CLASS_NAMES, write_toy
    from net.weights import save_checkpoint

    data = write_toy(place / "set", num_train=max(2, min(50, count // 3)), num_val=1)
    torch.manual_seed(0)
    network = net.build("efficientnet_lite0", len(CLASS_NAMES), head="seam", class_names=CLASS_NAMES)
    save_checkpoint(place / "seam.pth", network)
    off = ("train_seam", "eval_cam", *SECOND_HALF, "report")
    passes = (word for name in off for word in (f"--{name}_pass", "False"))
    argv = ("run_voc", "--data_dir", data, "--result_dir", place / "r", "--cam_weights", place / "seam.pth", *passes,
            "--cam_scales", "1", "--crf_num_iter", "1", "--device", "cpu")  # fmt: skip
    run(*argv)
    whole = {p: p.read_bytes() for p in (place / "r").rglob("*.npz")}
    return made_anew(rng, whole, count, lambda: run(*argv), same=same_arrays)


def same_arrays(path, data):
    with np.load(path) as one, np.load(io.BytesIO(data)) as other:
        values = [name for name in other.files if name != "fingerprint"]  # of maps that were kept, so of other bytes
        return one.files == other.files and all((one[name] == other[name]).all() for name in values)


def made_anew(rng, whole, count, again, same=lambda path, data: path.read_bytes() == data):
    left, kept = count, 0
    while left > 0:
        chosen = rng.sample(list(whole), min(left, len(whole)))
        for path in chosen:
            path.write_bytes(mutated(rng, whole[path]))
        again()
        kept += sum(path.read_bytes() != whole[path] for path in chosen)
        wrong = [path for path in chosen if not same(path, whole[path])]
        assert not wrong, wrong[:3]
        left -= len(chosen)
    return {"made anew": count - kept, "kept, with the same values": kept}


def fuzz_predictions(rng, place, count):
    """Each is scored or left out."""
    bases = predictions()
    for i in range(count):
        save(place / "m" / f"{i}.png", disc().astype(np.uint8))
        suffix = rng.choice(list(bases))
        path = place / "p" / f"{i}{suffix}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(mutated(rng, bases[suffix]))
    for suffix in bases:
        save(place / "m" / f"good{suffix[1:]}.png", disc().astype(np.uint8))
        (place / "p" / f"good{suffix[1:]}{suffix}").write_bytes(bases[suffix])
    scored, out = 0, 0
    for kind in (".png", ".npz", ".npy"):  # label maps and CAMs are scored apart
        part = place / kind[1:]
        for path in (place / "p").glob(f"*{kind}"):
            for folder, file in (("p", path), ("m", place / "m" / f"{path.stem}.png")):
                (part / folder).mkdir(parents=True, exist_ok=True)
                shutil.copy(file, part / folder / file.name)
        argv = ("--pred_dir", part / "p", "--mask_dir", part / "m", "--dataset", "voc12", "--per_image", part / "i.csv")
        _, error = run("step.eval_sem_seg", *argv, "--allow_missing", allowed=(0, 2))
        if (part / "i.csv").is_file():
            scored += len((part / "i.csv").read_text().splitlines()) - 1
        out += int(next(iter(re.findall(r"(\d+) prediction", error)), 0))
        assert not error.startswith("error") or "are CAMs" in error, error
    assert scored + out >= count, (scored, out, count)
    return {"scored": scored, "left out": out}


def fuzz_masks(rng, place, count):
    """Masks of a run: each image is scored or listed."""
    for i in range(count):
        save(place / "set" / "images" / f"{i}.png", picture(i))
        base = encoded(disc() * np.uint8(255), "PNG")
        (place / "set" / "masks").mkdir(exist_ok=True)
        (place / "set" / "masks" / f"{i}.png").write_bytes(mutated(rng, base))
    run("run_sample", place / "set", "--result_dir", place / "r", *SAMPLE, "--make_label_pass", "False")
    scored = json.loads((place / "r" / "metrics.json").read_text()).get("cam", {"n": 0})["n"]
    failed = sum(step == "eval" for step, _ in listed(place / "r"))
    assert scored + failed == count, (scored, failed)
    return {"scored": scored, "listed": failed}


ODD = (
    "a b.png", "a\tb.png", "a\nb.png", " .png", "-x.png", "--help.png", "#1.png", "100%.png", "a&b;c.png", "'q'.png",
    '"q".png', "$HOME.png", "`x`.png", "*.png", "?.png", "[0].png", "{}.png", "a..png", "a.b.c.png", "..png.png",
    "a\\b.png", "C:x.png", "con.png", "<b>.png", "é.png", "e\u0301.png", "東京.png", "\U0001f600.png", "\u202egnp.png",
    "\u200b.png", "x" * 251 + ".png", "y" * 247 + ".jpeg", "é" * 125 + ".png", "a.PNG", "b.JpG", "x.jpg.png", "noext",
    ".png", ".hidden.png", "Thumbs.db", "desktop.ini", "~$a.png", "a.png~", "a.txt", "empty.png", "z.zip", "@eaDir",
    "__MACOSX", "sub/a.png", "sub/sub/a.png", "dir.jpg/a.png",
)  # fmt: skip
LINKS = {"zero.png": "/dev/zero", "gone.png": "nowhere", "ok.png": "a b.png", "dir.png": "target"}
LINKS["self.png"] = "self.png"


def fuzz_entries(rng, place, count):
    """Names and entries of every sort, through maps, labels, superpixels, report and export."""
    folder = place / "set"
    (folder / "target").mkdir(parents=True)
    data = encoded(picture(), "PNG")
    for name in ODD[: max(5, count - 9)]:
        path = folder / name
        if name in ("@eaDir", "__MACOSX"):
            path = path / "a.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name in ("empty.png", "z.zip") else data)
    for name in (b"\xff\xfe.png", b"caf\xe9.png"):
        (Path(os.fsdecode(os.fsencode(folder) + b"/" + name))).write_bytes(data)
    (Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff.png"))).write_bytes(b"no picture")
    os.mkfifo(folder / "pipe.png")
    for link, target in LINKS.items():
        (folder / link).symlink_to(target)
    files = [Path(root, name) for root, _, found in os.walk(folder) for name in found] + [folder / "dir.png"]
    out, _ = run("run_sample", folder, "--result_dir", place / "r", *SAMPLE, "--export", "coco", timeout=300)
    run("run_slic", "--result_dir", place / "r", "--export", "labelme", timeout=300)
    return {"entries": len(files), **account(folder, place / "r", out, files)}


def killed(rng, argv, result, count, again):
    """The run is killed, mostly while a file is being written -> how many of the kills left one."""
    hits = done = 0
    command = [sys.executable, f"{argv[0]}.py", *words(*argv[1:])]
    while done < count:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait = rng.random() < 0.8
        begun, deadline = time.monotonic(), time.monotonic() + rng.uniform(3, 12)
        while process.poll() is None and time.monotonic() < (deadline if not wait else begun + 60):
            if wait and time.monotonic() > begun + 0.5 and any_part(result):
                break
        process.send_signal(signal.SIGKILL)
        ended = process.wait() != -signal.SIGKILL
        done += not ended
        hits += bool(not ended and any_part(result))
        if ended:  # all was done: some of it is taken away
            again(rng)
    return hits


def any_part(result):
    for folder, _, found in os.walk(result):
        if any(name.endswith(".part") and name.startswith(".") for name in found):
            return folder
    return None


def take_away(kinds):
    def again(rng, result):
        for kind in kinds:
            for path in (result / kind).rglob("*.*"):
                if rng.random() < 0.5:
                    path.unlink()

    return again


def fuzz_kills(rng, place, count):
    for i in range(60):
        save(place / "set" / f"{i}.png", picture(i, (240, 320)))
    first = ("run_sample", place / "set", *SAMPLE, "--result_dir")
    second = ("run_slic", "--result_dir")
    for argv in (first, second):
        run(*argv, place / "whole")
    result, again = place / "killed", take_away(("cam", "cam_pamr", "cam_slic", "report_files"))
    hits = killed(rng, (*first, result), result, count - count // 3, lambda rng: again(rng, result))
    run(*first, result)
    hits += killed(rng, (*second, result), result, count // 3, lambda rng: again_slic(rng, result))
    for argv in (first, second):
        run(*argv, result)
    return compared(place, hits, count)


def again_slic(rng, result):
    take_away(("cam_slic", "report_files"))(rng, result)


def fuzz_class_kills(rng, place, count):
    small = ("--seam_network", "efficientnet_lite0", "--seam_crop_size", "64", "--seam_long_side", "64", "96",
             "--seam_view_scale", "0.5", "--seam_batch_size", "4", "--seam_num_epoches", "2", "--cam_scales", "1",
             "--crf_num_iter", "2", "--tensorboard", "False", "--device", "cpu", "--state_steps", "1")  # fmt: skip
    off = (word for name in SECOND_HALF for word in (f"--{name}_pass", "False"))
    from data.toy import write_toy

    data = write_toy(place / "set", num_train=24, num_val=4)
    argv = ("run_voc", "--data_dir", data, *small, *off, "--result_dir")
    run(*argv, place / "whole")
    result, again = place / "killed", take_away(("cam", "crf_la", "crf_ha", "report_files"))
    hits = killed(rng, (*argv, result), result, count, lambda rng: again(rng, result))
    run(*argv, result)
    return compared(place, hits, count)


def compared(place, hits, count):
    """Both results hold the same bytes, and nothing temporary."""
    suffixes = (".png", ".npz", ".webp", ".pth")
    one, other = (
        {p.relative_to(place / name): p.read_bytes() for p in (place / name).rglob("*") if p.suffix in suffixes}
        for name in ("whole", "killed")
    )
    wrong = [path for path in one if one[path] != other.get(path) and "step_" not in path.name]
    assert not wrong and one.keys() == other.keys(), wrong[:5]
    assert not any_part(place / "killed")
    assert 3 * hits >= count, hits
    return {"kills": count, "while a file was being written": hits}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=[], help=", ".join(COUNTS))
    parser.add_argument("--times", type=float, default=1.0, help="this many times as many files")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    for kind in args.kinds or COUNTS:
        PAYLOAD_RAN.unlink(missing_ok=True)
        rng, started = random.Random(f"{args.seed} {kind}"), time.perf_counter()
        count = max(1, round(COUNTS[kind] * args.times))
        with tempfile.TemporaryDirectory() as place:
            found = globals()[f"fuzz_{kind}"](rng, Path(place), count)
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        assert memory < MOST_MEMORY, memory
        counts, seconds = ", ".join(f"{n} {what}" for what, n in found.items()), time.perf_counter() - started
        print(f"{kind}: {count}: {counts}; {seconds:.0f} s, at most {memory / 1e9:.2f} GB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
