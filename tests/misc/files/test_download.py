import hashlib
import io
import multiprocessing
import re
import socket
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from misc.files import download as module
from misc.files.download import DownloadError, download, sha256_of

BODY = bytes(range(256)) * 4096  # 1 MiB
SUM = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server(monkeypatch):
    """A web server on this machine: .url, .known (with its sum), .seen (headers of every request); how it behaves:

    body; breaks: how many answers still stop half way; ranges: honours Range; length: tells Content-Length; kind: the
    Content-Type; status, location: answers only that.
    """
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.setattr(module, "PAUSE", 0)
    monkeypatch.setattr(module, "CHUNK", 1 << 14)
    state = SimpleNamespace(body=BODY, breaks=0, ranges=True, length=True, kind=None, status=None, location=None)
    state.seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.seen.append(dict(self.headers))
            if state.status:
                return self.answer(state.status, b"", {"Location": state.location} if state.location else {})
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
            if not (wanted and state.ranges):
                return self.answer(200, state.body, {})
            start, total = int(wanted[1]), len(state.body)
            if start >= total:
                return self.answer(416, b"", {"Content-Range": f"bytes */{total}"})
            return self.answer(206, state.body[start:], {"Content-Range": f"bytes {start}-{total - 1}/{total}"})

        def answer(self, status, body, headers):
            headers |= {"Content-Type": state.kind} if state.kind else {}
            headers |= {"Content-Length": len(body)} if state.length else {}
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, str(value))
            self.end_headers()
            if state.breaks and body:
                state.breaks -= 1
                body = body[: len(body) // 2]
            with suppress(ConnectionError):  # of one who has read enough
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/weights/cam.tar.gz"
    state.known = f"{state.url}#sha256={SUM}"
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def ranges(server):
    return [headers.get("Range") for headers in server.seen]


def half_way(server, cache, monkeypatch):
    """Leaves the first half of BODY in the cache, as a process that gave up does."""
    server.breaks = 1
    with monkeypatch.context() as m, pytest.raises(DownloadError):
        m.setattr(module, "TRIES", 1)
        download(server.known, cache)
    server.seen.clear()
    return next(cache.glob("*.part"))


def files(cache):
    return [path for path in cache.iterdir() if path.suffix != ".lock"]


def test_downloads_once(server, tmp_path, capfd):
    path = download(f"{server.url}#sha256={SUM.upper()}", tmp_path / "a" / "b")
    assert path.read_bytes() == BODY and files(tmp_path / "a" / "b") == [path]
    assert path.name.endswith("cam.tar.gz")
    assert download(server.known, tmp_path / "a" / "b") == path
    assert download(server.url, tmp_path / "a" / "b") == path
    assert len(server.seen) == 1
    assert capfd.readouterr().err == ""  # no terminal, no bar


def test_a_name_and_the_first_digits_of_the_sum_will_do(server, tmp_path):
    path = download(f"{server.url}#sha256={SUM[:8]}", tmp_path, "cam.pth")
    assert path == tmp_path / "cam.pth" and path.read_bytes() == BODY
    with pytest.raises(DownloadError, match="SHA-256"):
        download(f"{server.url}#sha256={SUM[:7]}{'01'[SUM[7] == '0']}", tmp_path, "other.pth")


def test_names_differ_between_urls(server, tmp_path):
    urls = [
        server.url,
        server.url + "?v=2",
        server.url.replace("weights", "other"),
        server.url[: -len("cam.tar.gz")],
    ]
    paths = {download(url, tmp_path) for url in urls}
    assert len(paths) == 4
    odd = download(server.url + "/..%2F%20b%3A.pth?x=/y.z", tmp_path)
    assert odd.parent == tmp_path and re.fullmatch(r"[0-9a-f]{12}-\.\._2F_20b_3A\.pth", odd.name)


def test_sha256_of(tmp_path):
    (tmp_path / "a").write_bytes(BODY + b"x")
    assert sha256_of(tmp_path / "a") == hashlib.sha256(BODY + b"x").hexdigest()
    with pytest.raises(FileNotFoundError):
        sha256_of(tmp_path / "b")


def test_broken_line_is_resumed_within_a_call(server, tmp_path):
    server.breaks = 2
    assert download(server.known, tmp_path).read_bytes() == BODY
    assert ranges(server) == [None, f"bytes={len(BODY) // 2}-", f"bytes={len(BODY) * 3 // 4}-"]


def test_broken_line_is_resumed_by_the_next_call(server, tmp_path, monkeypatch):
    part = half_way(server, tmp_path, monkeypatch)
    assert part.read_bytes() == BODY[: len(BODY) // 2]
    assert download(server.known, tmp_path).read_bytes() == BODY
    assert ranges(server) == [f"bytes={len(BODY) // 2}-"]


def test_gives_up_after_a_few_tries_and_keeps_what_arrived(server, tmp_path):
    server.breaks = 99
    with pytest.raises(DownloadError) as caught:
        download(server.known, tmp_path)
    assert len(server.seen) == module.TRIES
    (part,) = files(tmp_path)
    size = part.stat().st_size
    assert part.read_bytes() == BODY[:size] and len(BODY) // 2 < size < len(BODY)
    assert all(text in str(caught.value) for text in (server.url, f"{len(BODY) - size} bytes before", "run again"))
    assert caught.value.errno is None and isinstance(caught.value, OSError)


def test_starts_over_without_range_support(server, tmp_path):
    server.breaks, server.ranges = 1, False
    assert download(server.known, tmp_path).read_bytes() == BODY
    assert ranges(server) == [None, f"bytes={len(BODY) // 2}-"]


def test_starts_over_without_a_sum(server, tmp_path):
    server.breaks = 1
    assert download(server.url, tmp_path).read_bytes() == BODY
    assert ranges(server) == [None, None]
    server.breaks = 99
    with pytest.raises(DownloadError, match="bytes before the end"):
        download(server.url, tmp_path / "other")
    assert not files(tmp_path / "other")


@pytest.mark.parametrize("longer", [True, False])
def test_a_file_that_changed_meanwhile_is_not_taken(server, tmp_path, monkeypatch, longer):
    half_way(server, tmp_path, monkeypatch)
    server.body = b"new" * (len(BODY) if longer else 20)
    with pytest.raises(DownloadError, match="SHA-256"):
        download(server.known, tmp_path)
    assert not files(tmp_path)
    server.body = BODY
    assert download(server.known, tmp_path).read_bytes() == BODY


def test_killed_between_the_last_byte_and_the_check(server, tmp_path, monkeypatch):
    half_way(server, tmp_path, monkeypatch).write_bytes(BODY)
    assert download(server.known, tmp_path).read_bytes() == BODY


def test_length_need_not_be_told(server, tmp_path):
    server.length = False
    assert download(server.url, tmp_path).read_bytes() == BODY


def test_a_web_page_is_no_file(server, tmp_path):
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(DownloadError, match=rf"{server.url} gives a web page \(text/html\)"):
        download(server.url, tmp_path)
    assert len(server.seen) == 1 and not files(tmp_path)
    assert download(server.known, tmp_path).read_bytes() == BODY  # whatever the server calls it


@pytest.mark.parametrize("length", [True, False])
def test_without_a_sum_files_are_bounded(server, tmp_path, monkeypatch, length):
    monkeypatch.setattr(module, "LIMIT", len(BODY) - 1)
    server.length = length
    with pytest.raises(DownloadError, match=f"{server.url} has more than {len(BODY) - 1} bytes: give its #sha256"):
        download(server.url, tmp_path)
    assert len(server.seen) == 1 and not files(tmp_path)
    assert download(server.known, tmp_path).read_bytes() == BODY


def test_wrong_sum_is_refused_and_the_file_removed(server, tmp_path):
    with pytest.raises(DownloadError) as caught:
        download(f"{server.url}#sha256={'0' * 64}", tmp_path)
    assert all(text in str(caught.value) for text in (server.url, SUM, "0" * 64, "removed"))
    assert not files(tmp_path)
    assert download(server.known, tmp_path).read_bytes() == BODY


def test_cached_file_of_another_sum_is_fetched_anew(server, tmp_path):
    path = download(server.url, tmp_path)
    path.write_bytes(b"damaged")
    assert download(server.known, tmp_path).read_bytes() == BODY
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
        "https://user@example.org/a.pth",
        "https://example.org/a b.pth",
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


def test_unwritable_cache_is_told(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DownloadError, match=rf"{server.url} cannot be kept in .*file"):
        download(server.url, tmp_path / "file")


def test_two_processes_share_one_download(server, tmp_path):
    server.breaks = 2
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        paths = pool.starmap(download, [(server.known, tmp_path)] * 4, chunksize=1)
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
    assert "cam.tar.gz" in sys.stderr.getvalue() and "1.00M" in sys.stderr.getvalue()
