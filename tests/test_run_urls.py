"""Images and results under URLs and in tars, through the commands: the bytes of a plain run on this machine."""

import csv
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import pytest

import run_sample
import run_slic
from benchmarks.object_store import client, object_store
from misc.files import stores
from misc.run.passes import run_passes
from step import eval as step_eval
from tests.test_run_shards import command, contents, folder, run  # noqa: F401
from tests.test_run_shards import plain as whole  # noqa: F401

MADE = ("cam", "cam_pamr", "cam_slic")
PAGE = ("--eval_pass", "False", "--overview_pass", "False", "--report_pass", "False", "--doubtful_pass", "False")


@pytest.fixture(scope="module")
def plain(whole):  # noqa: F811
    """Maps and labels of a plain run."""
    return {path: data for path, data in whole.items() if path.parts[0] in MADE}


def labels(result):
    return {path: data for path, data in contents(result).items() if path.parts[0] in MADE}


@pytest.fixture
def memory(monkeypatch):
    """fsspec's store in memory, empty; calls: (method, URL) of what is asked of it."""
    fsspec = pytest.importorskip("fsspec", reason="needs requirements-urls.txt")
    monkeypatch.setattr(stores, "_PAUSES", (0,) * 4)
    store = fsspec.filesystem("memory")
    store.rm("/", recursive=True) if store.ls("/") else None
    calls = []

    def counted(name, real):
        def method(url, *args, **kwargs):
            calls.append((name, url))
            return real(url, *args, **kwargs)

        monkeypatch.setattr(store, name, method)

    for name in ("cat_file", "pipe_file", "rm_file", "find"):
        counted(name, getattr(store, name))
    store.calls = calls
    return store


def upload(store, folder, to):  # noqa: F811
    for path in folder.rglob("*"):
        if path.is_file():
            store.pipe_file(f"{to}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    store.calls.clear()


def objects(store, below, kinds=MADE):
    """Of labels and maps, by their paths."""
    start = len(below) + 1
    held = {path[start:]: path for path in store.find(below)}
    return {Path(name): store.cat_file(path) for name, path in held.items() if name.split("/")[0] in kinds}


def text(store, path):
    return store.cat_file(path).decode()


def rows_of(table):
    return [(row["step"], row["file"], row["reason"]) for row in csv.DictReader(table.splitlines())]


def left_here():
    return list(Path(tempfile.gettempdir()).glob(f"generate-pgt.*-{os.getpid()}-*"))


def test_from_bucket_to_bucket(memory, folder, plain, capsys):  # noqa: F811
    upload(memory, folder, "/bucket/photos")
    argv = ("memory://bucket/photos", "--result_dir", "memory://bucket/out")
    assert run(*argv) == 0
    out = capsys.readouterr().out
    assert "images: 10 in memory://bucket/photos" in out and "open memory://bucket/out/report.html" in out
    assert objects(memory, "/bucket/out") == plain and not left_here()
    names = [path.removeprefix("/bucket/out/") for path in memory.find("/bucket/out")]
    assert sum(name.startswith("runs/") for name in names) == 12 and not [n for n in names if n.endswith(".part")]
    assert {"report.html", "report_files/sub/p7.webp", "overview.png", "doubtful.csv", "args.json"} <= {*names}
    for name in names:
        if name.endswith((".json", ".txt", ".csv", ".html")):
            assert "generate-pgt." not in text(memory, f"/bucket/out/{name}"), name
    record = json.loads(text(memory, "/bucket/out/settings/cam.json"))
    assert (record["folder"], record["settings"]["sal_dataset_dir"]) == ("cam", "../photos")


def test_what_is_done_is_not_fetched_again(memory, folder, plain):  # noqa: F811
    upload(memory, folder, "/bucket/photos")
    argv = ("memory://bucket/photos", "--result_dir", "memory://bucket/out", *PAGE)
    assert run(*argv, "--shard", "0/2") == 0 and run(*argv, "--shard", "1/2") == 0
    assert objects(memory, "/bucket/out") == plain
    memory.calls.clear()
    assert run(*argv, "--shard", "0/2") == 0
    asked = [url for _, url in memory.calls if "/photos" in url or "/cam" in url]
    assert asked == ["memory://bucket/out/settings/cam.json"] * ("memory://bucket/out/settings/cam.json" in asked)
    assert not [url for name, url in memory.calls if name in ("pipe_file", "rm_file") and "/runs/make" in url]
    memory.calls.clear()
    assert run(*argv, "--slic_high", "1.5", "--shard", "0/1") == 0  # needs maps, and no label of the other kind
    asked = [url for name, url in memory.calls if name == "cat_file"]
    assert sum("/photos/" in url for url in asked) == sum("/cam/" in url for url in asked) == 10
    assert objects(memory, "/bucket/out", ["cam_slic"]) != {k: v for k, v in plain.items() if k.parts[0] == "cam_slic"}
    assert objects(memory, "/bucket/out", ["cam"]) == {k: v for k, v in plain.items() if k.parts[0] == "cam"}


def test_maps_that_are_made_anew_lead_to_new_labels(memory, folder, plain):  # noqa: F811
    upload(memory, folder, "/bucket/photos")
    argv = ("memory://bucket/photos", "--result_dir", "memory://bucket/out", *PAGE)
    assert run(*argv) == 0 and run(*argv, "--cam_scales", "0.5") == 0
    assert not any(objects(memory, "/bucket/out").get(k) == v for k, v in plain.items() if k.parts[0] == "cam")
    assert run(*argv) == 0
    assert objects(memory, "/bucket/out") == plain


def test_a_picture_that_changes_is_labelled_anew_once_the_manifest_is_gone(memory, folder, plain):  # noqa: F811
    upload(memory, folder, "/bucket/photos")
    other = (folder / "p4.png").read_bytes()
    memory.pipe_file("/bucket/photos/p0.png", other)
    argv = ("memory://bucket/photos", "--result_dir", "memory://bucket/out", *PAGE)
    assert run(*argv) == 0
    assert objects(memory, "/bucket/out") != plain
    memory.pipe_file("/bucket/photos/p0.png", (folder / "p0.png").read_bytes())
    memory.rm_file("/bucket/out/manifest.txt")
    memory.calls.clear()
    assert run(*argv) == 0
    assert objects(memory, "/bucket/out") == plain
    put = [url for name, url in memory.calls if name == "pipe_file" and "/cam" in url and "settings" not in url]
    assert sorted(put) == [f"memory://bucket/out/{kind}/p0.png" for kind in MADE]


def test_run_slic_takes_images_and_maps_of_the_bucket(memory, folder, plain, tmp_path):  # noqa: F811
    upload(memory, folder, "/bucket/photos")
    assert run("memory://bucket/photos", "--result_dir", "memory://bucket/out", "--make_slic_pass", "False", *PAGE) == 0
    flags = ["--device", "cpu", "--quiet", "--num_workers", "1", *PAGE]

    def slic(*argv):
        return run_passes(run_slic.PASSES, lambda: run_slic.parse([*flags, *argv]))

    assert slic("--result_dir", "memory://bucket/out", "--shard_size", "4") == 0
    assert objects(memory, "/bucket/out") == plain
    far = ("--img_root", "memory://bucket/photos", "--prob_root", "memory://bucket/out/cam")
    assert slic(*far, "--result_dir", str(tmp_path)) == 0
    assert labels(tmp_path) == {k: v for k, v in plain.items() if k.parts[0] == "cam_slic"}


def test_a_list_of_urls(memory, folder, plain, tmp_path):  # noqa: F811
    upload(memory, folder, "/bucket/photos")
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*.png")]
    (tmp_path / "list.txt").write_text("\n".join(f"memory://bucket/photos/{name}" for name in names))
    assert run("--manifest", tmp_path / "list.txt", "--result_dir", tmp_path / "out", *PAGE) == 0
    found = {Path(*path.parts[:1], *path.parts[3:]): data for path, data in labels(tmp_path / "out").items()}
    assert found == plain
    memory.pipe_file("/bucket/list.txt", "\n".join(f"photos/{name}" for name in names).encode())
    assert run("--manifest", "memory://bucket/list.txt", "--result_dir", "memory://bucket/out", *PAGE) == 0
    found = {Path(*path.parts[:1], *path.parts[2:]): data for path, data in objects(memory, "/bucket/out").items()}
    assert found == plain


def test_masks_are_read_too(memory, tmp_path):
    from data.sample import write_sample

    write_sample(tmp_path / "set")
    upload(memory, tmp_path / "set", "/bucket/set")
    fast = ("--limit", "2", "--max_side", "64")
    assert run(tmp_path / "set", "--result_dir", tmp_path / "out", *fast) == 0
    assert run("memory://bucket/set", "--result_dir", "memory://bucket/out", *fast) == 0
    assert text(memory, "/bucket/out/metrics.json") == (tmp_path / "out" / "metrics.json").read_text()
    assert text(memory, "/bucket/out/doubtful.csv") == (tmp_path / "out" / "doubtful.csv").read_bytes().decode()
    far = ["--pred_dir", "memory://bucket/out/cam", "--mask_dir", "memory://bucket/set/masks", "--allow_missing"]
    assert step_eval.main([*far, "--quiet", "--out", "memory://bucket/scores.json"]) == 0
    (scores,) = json.loads(text(memory, "/bucket/scores.json")).values()
    assert scores["mae"] == json.loads(text(memory, "/bucket/out/metrics.json"))["cam"]["mae"]


def test_a_file_that_fails_is_named_by_its_url(memory, folder):  # noqa: F811
    upload(memory, folder, "/bucket/photos")
    memory.pipe_file("/bucket/photos/p1.png", b"no picture")
    argv = ("memory://bucket/photos", "--result_dir", "memory://bucket/out", *PAGE)
    assert run(*argv) == 1
    ((step, file, reason),) = rows_of(text(memory, "/bucket/out/failed.csv"))
    assert (step, file) == ("make_cam", "memory://bucket/photos/p1.png") and "is no picture" in reason
    memory.pipe_file("/bucket/photos/p1.png", (folder / "p1.png").read_bytes())
    assert run(*argv, "--overwrite") == 0
    assert not memory.exists("/bucket/out/failed.csv")


@pytest.mark.parametrize("method", ["cat_file", "pipe_file"])
def test_what_fails_for_good_fails_alone_and_is_done_by_the_next_run(memory, folder, plain, monkeypatch, method):  # noqa: F811
    upload(memory, folder, "/bucket/photos")
    bad = {"cat_file": "memory://bucket/photos/p1.png", "pipe_file": "memory://bucket/out/cam_pamr/p1.png"}[method]
    real, tries = getattr(memory, method), []

    def fails(url, *args, **kwargs):
        if url == bad:
            tries.append(url)
            raise ConnectionResetError("the line is dead")
        return real(url, *args, **kwargs)

    argv = ("memory://bucket/photos", "--result_dir", "memory://bucket/out", *PAGE)
    with monkeypatch.context() as patch:
        patch.setattr(memory, method, fails)
        assert run(*argv) == 1
    assert len(tries) == 5
    ((_, file, reason),) = rows_of(text(memory, "/bucket/out/failed.csv"))
    assert file == bad and "the line is dead, in 5 tries" in reason
    assert len(objects(memory, "/bucket/out")) == len(plain) - (3 if method == "cat_file" else 1)
    assert run(*argv) == 0
    assert objects(memory, "/bucket/out") == plain and not memory.exists("/bucket/out/failed.csv")


def test_reads_and_writes_that_fail_now_and_then_change_nothing(memory, folder, plain, monkeypatch):  # noqa: F811
    upload(memory, folder, "/bucket/photos")
    seen = set()

    def fails_first(name, real):
        def method(url, *args, **kwargs):
            if (name, url) not in seen:
                seen.add((name, url))
                raise OSError("once")
            return real(url, *args, **kwargs)

        monkeypatch.setattr(memory, name, method)

    for name in ("cat_file", "pipe_file", "find"):
        fails_first(name, getattr(memory, name))
    assert run("memory://bucket/photos", "--result_dir", "memory://bucket/out", *PAGE) == 0
    monkeypatch.undo()
    assert objects(memory, "/bucket/out") == plain


def start(*argv, **kwargs):
    return subprocess.run(list(map(str, argv)), capture_output=True, text=True, **kwargs)


def test_two_processes_fetch_their_own_shards(folder, plain, tmp_path):  # noqa: F811
    env = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    far = [f"file://{folder.as_posix()}", "--result_dir", f"file://{(tmp_path / 'out').as_posix()}"]
    done = start(*command(*far, "--num_devices", "2"), env=env)
    assert done.returncode == 0, done.stderr
    assert labels(tmp_path / "out") == plain and (tmp_path / "out" / "report.html").is_file()
    assert not list((tmp_path / "tmp").glob("generate-pgt*"))


@pytest.fixture
def tars(folder, tmp_path):  # noqa: F811
    """The photographs, four to a tar."""
    (tmp_path / "tars").mkdir()
    files = sorted(folder.rglob("*.png"))
    for k in range(0, len(files), 4):
        with tarfile.open(tmp_path / "tars" / f"{k:03}.tar", "w") as held:
            for file in files[k : k + 4]:
                held.add(file, file.name)
    return tmp_path / "tars"


def members(result):
    """(name of an image, kind) -> the bytes of its label; each has a .json beside it."""
    found = {}
    for path in result.glob("cam*/*.tar"):
        with tarfile.open(path) as held:
            files = {member.name: held.extractfile(member).read() for member in held}
        kind = path.parent.name
        for name in [name for name in files if name.endswith(".png")]:
            stem = name.removesuffix(f".{kind}.png")
            assert json.loads(files[f"{stem}.json"])["file"] == name
            found[stem, kind] = files[name]
    return found


def test_tars_become_tars(tars, plain, tmp_path, capsys):
    wanted = {(path.stem, path.parts[0]): data for path, data in plain.items()}
    out = tmp_path / "out"
    for i in range(2):
        assert run(tars, "--result_dir", out, "--shard", f"{i}/2") == 0
    assert members(out) == wanted and {path.name for path in (out / "cam").iterdir()} == {
        "000.tar",
        "004.tar",
        "008.tar",
    }
    before = {path: path.stat().st_mtime_ns for path in out.glob("cam*/*.tar")}
    assert run(tars, "--result_dir", out) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with (out / "doubtful.csv").open(encoding="utf-8") as f:
        assert len([*csv.DictReader(f)]) == 10
    assert (out / "report_files" / "000.tar" / "p0.webp").is_file()
    assert run(tars, "--result_dir", out, "--slic_high", "1.5", *PAGE) == 0
    assert members(out).keys() == wanted.keys() and members(out) != wanted
    changed = {path for path in before if path.stat().st_mtime_ns != before[path]}
    assert {path.parent.name for path in changed} == {"cam_slic"}


def test_a_damaged_tar_and_one_with_two_pictures_of_a_name_fail_alone(tars, plain, tmp_path):
    data, out = (tars / "004.tar").read_bytes(), tmp_path / "out"
    (tars / "004.tar").write_bytes(data[:700])
    with tarfile.open(tars / "008.tar", "w") as held:
        for name in ("a.png", "a.jpg"):
            held.addfile(tarfile.TarInfo(name))
    assert run(tars, "--result_dir", out, *PAGE) == 1
    rows = {Path(file).name: reason for _, file, reason in rows_of((out / "failed.csv").read_text(encoding="utf-8"))}
    assert set(rows) == {"004.tar", "008.tar"}
    assert "is no whole tar" in rows["004.tar"] and "2 pictures in it are called a" in rows["008.tar"]
    assert {name for name, _ in members(out)} == {f"p{i}" for i in range(4)}
    (tars / "004.tar").write_bytes(data)
    (tars / "008.tar").unlink()
    (out / "manifest.txt").unlink()
    assert run(tars, "--result_dir", out, *PAGE) == 0
    assert members(out) == {(p.stem, p.parts[0]): v for p, v in plain.items() if p.stem not in ("p7", "p9")}


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (["memory://bucket/photos", "--train_sal_pass"], "--train_sal_pass: a training reads no URLs"),
        (["memory://bucket/none"], "--sal_dataset_dir memory://bucket/none: no picture in it"),
        (["memory://bucket/../photos"], "memory://bucket/../photos: names no file or folder"),
        (["odd://bucket/photos"], "odd://: Protocol not known"),
        (
            ["memory://bucket/photos", "--cam_init_weights", "memory://bucket/x.pth"],
            "--cam_init_weights memory://bucket",
        ),
    ],
)
def test_bad_input_is_one_clear_line(memory, tmp_path, capsys, argv, error):
    memory.pipe_file("/bucket/photos/a.png", b"")
    assert run(*argv, "--result_dir", tmp_path) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and error in told


def test_results_lie_apart_from_the_images(memory, capsys):
    memory.pipe_file("/bucket/photos/a.png", b"")
    assert run("memory://bucket/photos", "--result_dir", "memory://bucket/photos/out") == 2
    assert "lies in --sal_dataset_dir memory://bucket/photos" in capsys.readouterr().err


def test_without_fsspec_a_line_says_what_to_install(folder, tmp_path):  # noqa: F811
    (tmp_path / "fsspec.py").write_text("raise ImportError('not here')")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = start(*command("s3://bucket/photos"), env=env)
    assert done.returncode == 2 and "pip install -r requirements-urls.txt" in done.stderr
    assert done.stderr.count("\n") == 1


def test_nothing_of_it_is_loaded_for_files_of_this_machine():
    code = "import sys, run_sample, run_slic, step.make_cam; sys.exit('s3fs' in sys.modules)"
    root = Path(run_sample.__file__).parent
    assert start(sys.executable, "-c", code, cwd=root).returncode == 0
    code = "import sys, misc.run.passes, step.make_slic; sys.exit('fsspec' in sys.modules)"
    assert start(sys.executable, "-c", code, cwd=root).returncode == 0


def test_s3_that_fails_and_a_run_that_is_killed(folder, plain, tmp_path):  # noqa: F811
    """Of moto, from bucket to bucket: 5 % of the requests fail."""
    for name in ("moto", "s3fs", "flask"):
        pytest.importorskip(name, reason="needs requirements-urls.txt and moto[server]")
    (tmp_path / "tmp").mkdir()
    with object_store() as (layer, env):
        s3 = client(env)
        for bucket in ("images", "results"):
            s3.create_bucket(Bucket=bucket)
        for path in folder.rglob("*.png"):
            s3.put_object(Bucket="images", Key=f"a/{path.relative_to(folder).as_posix()}", Body=path.read_bytes())
        layer.rate = 0.05
        argv = command("s3://images/a", "--result_dir", "s3://results/run", "--shard_size", "1")
        env = {**os.environ, **env, "TMPDIR": str(tmp_path / "tmp")}
        process = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.time() + 120
        while process.poll() is None and time.time() < deadline and layer.counts["PUT"] < 40:
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert layer.counts["PUT"] >= 40 and list((tmp_path / "tmp").glob("generate-pgt*"))
        done = start(*argv, env=env)
        assert done.returncode == 0, done.stderr
        assert layer.counts["before"] and layer.counts["after"] and layer.counts["cut"]
        layer.rate = 0
        found = [one["Key"] for one in s3.list_objects_v2(Bucket="results")["Contents"]]
        made = {name: s3.get_object(Bucket="results", Key=name)["Body"].read() for name in found}
    made = {Path(name.removeprefix("run/")): data for name, data in made.items()}
    assert {path: data for path, data in made.items() if path.parts[0] in MADE} == plain
    assert sum(path.parts[0] == "runs" for path in made) == 30 and Path("report.html") in made
    assert {path.suffix for path in made} == {".png", ".json", ".txt", ".csv", ".webp", ".html"}
    assert not list((tmp_path / "tmp").glob("generate-pgt*"))
