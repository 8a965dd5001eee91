"""Files from https URLs, fetched once: resumed where the line breaks, checked, in place only when whole.

    path = download("https://example.org/cam.pth#sha256=<64 hex digits>", Path("result/cache"))

Beside a file that is under way lie NAME.part (what has arrived), NAME.part.json (which version of the file
that is) and NAME.lock (held by the process that downloads; others wait for it, and then take the finished
file).
"""

import hashlib
import json
import re
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from email.message import Message
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from ssl import SSLError
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urldefrag, urlsplit

from filelock import FileLock
from tqdm import tqdm

TRIES = 5
PAUSE = 1.0  # seconds before the second try, doubled before each further one
TIMEOUT = 30.0  # seconds without a byte until a line counts as broken
CHUNK = 1 << 18  # bytes
_BROKEN_LINE = (URLError, HTTPException, ConnectionError, TimeoutError, SSLError)


class DownloadError(OSError):
    """A download failed. The message is one sentence: the URL, what happened, and what to do."""


@dataclass(frozen=True)
class _Version:
    """Which bytes a URL stands for: strong ETag or Last-Modified, and length; None where not told."""

    validator: str | None
    length: int | None

    def agrees(self, other: "_Version") -> bool:
        return all(a == b or None in (a, b) for a, b in zip(astuple(self), astuple(other), strict=True))


def download(url: str, cache_dir: Path, sha256: str | None = None, progress: bool = True) -> Path:
    """The file behind url: from cache_dir without a request if it is there already, else downloaded into it.

    url: https, or http from this machine itself (localhost); it may end in #sha256=<64 hex digits>, the same
    as the argument sha256. With a sum, a cached file is checked too, and fetched anew if it is another one.
    progress: a bar on stderr, if that is a terminal. What a broken transfer leaves is resumed by the next try
    or the next call.

    ValueError: a URL or sum of another form. DownloadError: the server refuses, the line breaks at every try,
    the sum is wrong (that file is removed), or the cache cannot be written.
    """
    url, sha256 = _split_sum(url, sha256)
    path = Path(cache_dir) / _cache_name(url)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_beside(path, ".lock")):
            if not (path.is_file() and (sha256 is None or sha256_of(path) == sha256)):
                part = _beside(path, ".part")
                _fetch(url, part, progress)
                _check_sum(url, part, sha256)
                part.replace(path)
                _discard(part)
    except DownloadError:
        raise
    except OSError as e:
        raise DownloadError(f"{url} cannot be kept in {cache_dir} ({e}): free space or take another one") from e
    return path


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits. Raises OSError where it cannot be read."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _split_sum(url: str, sha256: str | None) -> tuple[str, str | None]:
    """-> url without fragment, its sum in lower case or None. Raises ValueError as download() does."""
    bare, fragment = urldefrag(url)
    if not _is_allowed(bare):
        raise ValueError(f"{url}: only ASCII https URLs (http from localhost alone) are downloaded: give one")
    given = [fragment] if fragment else []
    given += [] if sha256 is None else [f"sha256={sha256}"]
    sums = [re.fullmatch("sha256=([0-9a-f]{64})", text.lower()) for text in given]
    if None in sums:
        raise ValueError(f"{url}: a sum must be 64 hex digits, in a URL as #sha256=<64 hex digits>")
    if len({match[1] for match in sums}) > 1:
        raise ValueError(f"{url}: its #sha256 and the sha256 given beside it differ: keep the right one")
    return bare, sums[0][1] if sums else None


def _is_allowed(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # a malformed host
        return False
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    secure = parts.scheme == "https" or (parts.scheme == "http" and local)
    return secure and bool(parts.hostname) and url.isascii()


def _cache_name(url: str) -> str:
    """Another name for each URL, safe on any disk, with the end (so the suffix) of the URL's file name."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", PurePosixPath(unquote(urlsplit(url).path)).name)
    return f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name[-100:]}"


def _fetch(url: str, part: Path, progress: bool) -> None:
    """Downloads url into part, in several tries where a further one may help."""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            _transfer(url, part, progress)
            return
        except HTTPError as e:
            e.close()
            problem = f"the server answered {e.code} {e.reason}"
            if e.code == 416:  # the part is longer than what the server has now
                _discard(part)
            elif e.code < 500 and e.code not in (408, 429):
                raise DownloadError(f"{url} cannot be downloaded ({problem}): check the address") from e
        except _BROKEN_LINE as e:
            problem = str(getattr(e, "reason", e)) or type(e).__name__
    raise DownloadError(
        f"{url} cannot be downloaded, even in {TRIES} tries ({problem}; {_size(part)} bytes are kept): "
        "check the network and run again, to go on from there"
    )


def _transfer(url: str, part: Path, progress: bool) -> None:
    """One request: for the rest of the part if the server still has that version, else for the whole file."""
    known, size = _read_version(part), _size(part)
    resume = {"Range": f"bytes={size}-", "If-Range": known.validator} if size and known.validator else {}
    request = urllib.request.Request(url, headers={"User-Agent": "generatePGT", **resume})
    with urllib.request.build_opener(_SafeRedirect).open(request, timeout=TIMEOUT) as response:
        start, version = _served(response.status, response.headers)
        if start != 0 and not (start == size and version.agrees(known)):
            _discard(part)
            raise ConnectionError("the file on the server changed meanwhile")
        with part.open("ab" if start else "wb") as file:
            if not start:  # after the old bytes are gone, before new ones come
                _version_file(part).write_text(json.dumps(asdict(version)), encoding="utf-8")
            bar = tqdm(
                total=version.length,
                initial=start,
                desc=part.stem,
                unit="B",
                unit_scale=True,
                disable=None if progress else True,  # None: silent where stderr is no terminal
            )
            with bar:
                for chunk in _chunks(response):
                    file.write(chunk)
                    bar.update(len(chunk))
    if version.length not in (None, _size(part)):
        raise ConnectionError(f"the line broke after {_size(part)} of {version.length} bytes")


def _chunks(response) -> Iterator[bytes]:
    """The body; an error of the system while it comes is one of the line, not of the disk."""
    try:
        while chunk := response.read(CHUNK):
            yield chunk
    except OSError as e:
        raise ConnectionError(str(e)) from e


def _served(status: int, headers: Message) -> tuple[int | None, _Version]:
    """Where in the file the answer begins (None: it does not tell), and the version that it is of."""
    etag = headers["ETag"] or "W/"
    validator = headers["Last-Modified"] if etag.startswith("W/") else etag
    if status != 206:
        length = headers["Content-Length"] or ""
        return 0, _Version(validator, int(length) if length.isdigit() else None)
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers["Content-Range"] or "")
    start, length = (int(span[1]), int(span[2])) if span else (None, None)
    return start, _Version(validator, length)


class _SafeRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not _is_allowed(newurl):
            raise DownloadError(f"{req.full_url} redirects to {newurl}, not https: take another source")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_sum(url: str, part: Path, expected: str | None) -> None:
    if expected and (found := sha256_of(part)) != expected:
        _discard(part)
        raise DownloadError(
            f"{url} has the SHA-256 {found} where {expected} was expected, so the file was removed: "
            "check the sum and the source, then run again"
        )


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _version_file(part: Path) -> Path:
    return _beside(part, ".json")


def _read_version(part: Path) -> _Version:
    try:
        return _Version(**json.loads(_version_file(part).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):  # none, or cut short: the part is of no known version
        return _Version(None, None)


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)
