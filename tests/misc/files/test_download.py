import hashlib
import io
import multiprocessing
import re
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from misc.files import download as module
from misc.files.download import DownloadError, download, sha256_of

BODY = bytes(range(256)) * 4096  # 1 MiB
SUM = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server(monkeypatch):
    """A web server on this machine: .url, .seen (headers of every request), and how it behaves:

    body; breaks: how many answers still stop half way; etag, last_modified; ranges: honours Range; checks:
    honours If-Range; length: tells Content-Length; status, location: answers only that.
    """
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.setattr(module, "PAUSE", 0)
    monkeypatch.setattr(module, "CHUNK", 1 << 14)
    state = SimpleNamespace(body=BODY, breaks=0, etag='"v1"', last_modified=None, ranges=True, checks=True)
    state.length, state.status, state.location, state.seen = True, None, None, []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.seen.append(dict(self.headers))
            if state.status:
                return self.answer(state.status, b"", {"Location": state.location} if state.location else {})
            fresh = self.headers["If-Range"] in (state.etag, state.last_modified) or not state.checks
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
            if not (wanted and state.ranges and fresh):
                return self.answer(200, state.body, {})
            start, total = int(wanted[1]), len(state.body)
            if start >= total:
                return self.answer(416, b"", {"Content-Range": f"bytes */{total}"})
            return self.answer(206, state.body[start:], {"Content-Range": f"bytes {start}-{total - 1}/{total}"})

        def answer(self, status, body, headers):
            headers |= {"ETag": state.etag, "Last-Modified": state.last_modified}
            headers |= {"Content-Length": len(body)} if state.length else {}
            self.send_response(status)
            for name, value in headers.items():
                if value is not None:
                    self.send_header(name, str(value))
            self.end_headers()
            if state.breaks and body:
                state.breaks -= 1
                body = body[: len(body) // 2]
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/weights/cam.tar.gz"
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def ranges(server):
    return [headers.get("Range") for headers in server.seen]


def half_way(server, cache, monkeypatch):
    """Leaves the first half of BODY in the cache, as a process that gave up does."""
    monkeypatch.setattr(module, "TRIES", 1)
    server.breaks = 1
    with pytest.raises(DownloadError):
        download(server.url, cache)
    monkeypatch.undo()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "PAUSE", 0)
    server.seen.clear()
    return next(cache.glob("*.part"))


def test_downloads_once(server, tmp_path, capfd):
    path = download(f"{server.url}#sha256={SUM.upper()}", tmp_path / "a" / "b")
    assert path.read_bytes() == BODY and path.parent == tmp_path / "a" / "b"
    assert path.name.endswith("cam.tar.gz")
    assert not [p for p in path.parent.iterdir() if ".part" in p.name]
    assert download(server.url, tmp_path / "a" / "b", sha256=SUM) == path
    assert download(server.url, tmp_path / "a" / "b") == path
    assert len(server.seen) == 1
    assert capfd.readouterr().err == ""  # no terminal, no bar


def test_names_differ_between_urls(server, tmp_path):
    urls = [
        server.url,
        server.url + "?v=2",
        server.url.replace("weights", "other"),
        server.url[: -len("cam.tar.gz")],
    ]
    paths = {download(url, tmp_path) for url in urls}
    assert len(paths) == 4
    odd = download(server.url + "/a%2F..%2F%20b%3A.pth?x=/y.z", tmp_path)
    assert odd.parent == tmp_path and re.fullmatch(r"[0-9a-f]{12}-_b_\.pth", odd.name)


def test_sha256_of(tmp_path):
    (tmp_path / "a").write_bytes(BODY + b"x")
    assert sha256_of(tmp_path / "a") == hashlib.sha256(BODY + b"x").hexdigest()
    with pytest.raises(FileNotFoundError):
        sha256_of(tmp_path / "b")


@pytest.mark.parametrize(("etag", "last_modified"), [('"v1"', None), (None, "Mon, 06 Jul 2020 10:00:00 GMT")])
def test_broken_line_is_resumed_within_a_call(server, tmp_path, etag, last_modified):
    server.breaks, server.etag, server.last_modified = 2, etag, last_modified
    assert download(f"{server.url}#sha256={SUM}", tmp_path).read_bytes() == BODY
    assert ranges(server) == [None, f"bytes={len(BODY) // 2}-", f"bytes={len(BODY) * 3 // 4}-"]
    assert server.seen[1]["If-Range"] == (etag or last_modified)


def test_broken_line_is_resumed_by_the_next_call(server, tmp_path, monkeypatch):
    part = half_way(server, tmp_path, monkeypatch)
    assert part.read_bytes() == BODY[: len(BODY) // 2]
    assert download(server.url, tmp_path).read_bytes() == BODY
    assert ranges(server) == [f"bytes={len(BODY) // 2}-"]


def test_gives_up_after_a_few_tries_and_keeps_what_arrived(server, tmp_path):
    server.breaks = 99
    with pytest.raises(DownloadError) as caught:
        download(server.url, tmp_path)
    assert len(server.seen) == module.TRIES
    (part,) = tmp_path.glob("*.part")
    size = part.stat().st_size
    assert part.read_bytes() == BODY[:size] and len(BODY) // 2 < size < len(BODY)
    assert all(text in str(caught.value) for text in (server.url, f"{size} of {len(BODY)}", "run again"))
    assert caught.value.errno is None and isinstance(caught.value, OSError)


@pytest.mark.parametrize("etag", ['"v1"', None, 'W/"v1"'])
def test_starts_over_without_range_support(server, tmp_path, etag):
    server.breaks, server.etag, server.ranges = 1, etag, False
    assert download(server.url, tmp_path).read_bytes() == BODY
    assert len(server.seen) == 2
    assert (ranges(server)[1] is None) == (etag != '"v1"')  # without a strong validator none is asked for


@pytest.mark.parametrize("checks", [True, False], ids=["If-Range", "careless server"])
@pytest.mark.parametrize("longer", [True, False])
def test_starts_over_where_the_file_changed(server, tmp_path, monkeypatch, checks, longer):
    half_way(server, tmp_path, monkeypatch)
    server.body, server.etag, server.checks = b"new" * (len(BODY) if longer else 20), '"v2"', checks
    assert download(server.url, tmp_path).read_bytes() == server.body


def test_starts_over_where_only_the_length_changed(server, tmp_path, monkeypatch):
    half_way(server, tmp_path, monkeypatch)
    server.body = b"new" * len(BODY)
    assert download(server.url, tmp_path).read_bytes() == server.body
    assert len(server.seen) == 2


@pytest.mark.parametrize("note", [None, "{", "[1]", '{"other": 1}'])
def test_starts_over_where_the_version_of_the_part_is_unknown(server, tmp_path, monkeypatch, note):
    part = half_way(server, tmp_path, monkeypatch)
    version = part.with_name(part.name + ".json")
    version.unlink() if note is None else version.write_text(note)
    assert download(server.url, tmp_path).read_bytes() == BODY
    assert ranges(server) == [None]


def test_length_need_not_be_told(server, tmp_path):
    server.length = False
    assert download(server.url, tmp_path).read_bytes() == BODY


def test_wrong_sum_is_refused_and_the_file_removed(server, tmp_path):
    with pytest.raises(DownloadError) as caught:
        download(server.url, tmp_path, sha256="0" * 64)
    assert all(text in str(caught.value) for text in (server.url, SUM, "0" * 64, "removed"))
    assert not [p for p in tmp_path.iterdir() if p.suffix != ".lock"]
    assert download(server.url, tmp_path, sha256=SUM).read_bytes() == BODY


def test_cached_file_of_another_sum_is_fetched_anew(server, tmp_path):
    path = download(server.url, tmp_path)
    path.write_bytes(b"damaged")
    assert download(server.url, tmp_path, sha256=SUM).read_bytes() == BODY
    assert len(server.seen) == 2


def test_404_is_told_at_once(server, tmp_path):
    server.status = 404
    with pytest.raises(DownloadError, match=rf"{server.url} .*404.*check the address"):
        download(server.url, tmp_path)
    assert len(server.seen) == 1


def test_503_is_tried_again(server, tmp_path):
    server.status = 503
    with pytest.raises(DownloadError, match="503"):
        download(server.url, tmp_path)
    assert len(server.seen) == module.TRIES


def test_refused_connection(server, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a.pth"
        with pytest.raises(DownloadError, match=rf"{url} .*refused.*check the network"):
            download(url, tmp_path)


def test_redirects_stay_on_https_or_this_machine(server, tmp_path):
    server.status, server.location = 302, "http://example.org/a.pth"
    with pytest.raises(DownloadError, match=r"redirects to http://example\.org/a\.pth, not https"):
        download(server.url, tmp_path)
    assert len(server.seen) == 1


def test_redirect_is_followed(server, tmp_path):
    class Hop(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302)
            self.send_header("Location", server.url)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hop) as hop:
        threading.Thread(target=hop.serve_forever, kwargs={"poll_interval": 0.01}).start()
        try:
            assert download(f"http://localhost:{hop.server_port}/x.pth", tmp_path).read_bytes() == BODY
        finally:
            hop.shutdown()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a.pth",
        "ftp://example.org/a",
        "file:///etc/hostname",
        "a.pth",
        "https://",
        "https://[x/a",
        "http://127.0.0.1.example.org/a",
        "http://localhost@example.org/a",
        "https://example.org/é.pth",
    ],
)
def test_other_urls_are_refused(tmp_path, url):
    with pytest.raises(ValueError, match="https"):
        download(url, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fragment", ["sha256=", "sha256=12", "md5=" + "0" * 64, "0" * 64, "sha256=" + "g" * 64])
def test_bad_fragments_are_refused(tmp_path, fragment):
    with pytest.raises(ValueError, match="64 hex digits"):
        download(f"https://example.org/a.pth#{fragment}", tmp_path)


def test_bad_sums_are_refused(tmp_path):
    with pytest.raises(ValueError, match="64 hex digits"):
        download("https://example.org/a.pth", tmp_path, sha256="")
    with pytest.raises(ValueError, match="differ"):
        download(f"https://example.org/a.pth#sha256={SUM}", tmp_path, sha256="0" * 64)


def test_unwritable_cache_is_told(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DownloadError, match=rf"{server.url} cannot be kept in .*file"):
        download(server.url, tmp_path / "file")


def test_two_processes_share_one_download(server, tmp_path):
    server.breaks = 2
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        paths = pool.starmap(download, [(server.url, tmp_path, SUM)] * 4, chunksize=1)
    assert len(set(paths)) == 1 and paths[0].read_bytes() == BODY
    assert len(server.seen) == 3  # one process, two resumes; the others waited for it


def test_bar_on_a_terminal_only_where_wanted(server, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stderr", Terminal())
    download(server.url + "?quiet", tmp_path, progress=False)
    assert sys.stderr.getvalue() == ""
    download(server.url, tmp_path)
    assert "cam.tar.gz" in sys.stderr.getvalue() and "1.05M" in sys.stderr.getvalue()
