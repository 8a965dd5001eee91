"""Files from https URLs, fetched once: checked, in place only when whole, resumed where their sum is known.

    path = download("https://example.org/cam.pth#sha256=<64 hex digits>", Path("result/cache"))

Beside a file that is under way lie NAME.part (what has arrived) and NAME.lock (held by the process that downloads;
others wait for it, and then take the finished file).
"""

import hashlib
import re
import time
from contextlib import ExitStack
from http.client import HTTPException
from pathlib import Path
from ssl import SSLError
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from filelock import FileLock

from misc.run.progress import Progress, Talk

TRIES = 5
PAUSE = 1.0  # seconds before the second try, doubled before each further one
TIMEOUT = 30.0  # seconds without a byte until a line counts as broken
CHUNK = 1 << 18  # bytes
LIMIT = 1 << 31  # bytes of a file whose sum is not known
_ALLOWED = re.compile(r"(?i)(https://[a-z0-9._-]+|http://(localhost|127\.0\.0\.1|\[::1]))(:\d+)?([/?][!-~]*)?")


class DownloadError(OSError):
    """A download failed. The message is one sentence: the URL, what happened, and what to do."""


def download(url: str, folder: Path, name: str | None = None, progress: bool = True, limit: int | None = None) -> Path:
    """The file behind url: from folder without a request if it is there already, else downloaded into it.

    url: https, or http from this machine itself (localhost); it may end in #sha256=<64 hex digits, or the first 8 or
    more of them>. With a sum, a file that is there is checked too, and what a broken transfer leaves is resumed by the
    next try or the next call. name: of the file, by default another one for each URL. progress: a bar on stderr, if
    that is a terminal. limit: bytes at which it stops, None: without a sum LIMIT.

    ValueError: a URL or sum of another form. DownloadError: the server refuses, the line breaks at every try, the sum
    is wrong (that file is removed), folder cannot be written, it has more bytes than limit; without a sum also a web
    page. What else comes without a sum is for the caller to check, and to remove.
    """
    url, _, fragment = url.partition("#")
    if not _ALLOWED.fullmatch(url):
        raise ValueError(f"{url}: only ASCII https URLs (http from localhost alone) are downloaded: give one")
    known = re.fullmatch("sha256=([0-9a-f]{8,64})", fragment.lower())
    if fragment and not known:
        raise ValueError(f"{url}#{fragment}: a sum is 64 hex digits: give it as #sha256=<64 hex digits>")
    sha256 = known[1] if known else ""
    path = Path(folder) / (name or _name_of(url))
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f"{path.name}.lock")), ExitStack() as at_end:
            if not sha256:
                at_end.callback(part.unlink, missing_ok=True)
            if not (path.is_file() and sha256_of(path).startswith(sha256)):
                _fetch(url, part, sha256, progress, limit)
                part.replace(path)
    except DownloadError:
        raise
    except OSError as e:
        raise DownloadError(f"{url} cannot be kept in {folder} ({e}): free space or take another one") from e
    return path


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits. Raises OSError where it cannot be read."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _name_of(url: str) -> str:
    """Another name for each URL, safe on any disk, with the end (so the suffix) of the URL's file name."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", url.partition("?")[0].rpartition("/")[2])
    return f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name[-100:]}"


def _fetch(url: str, part: Path, sha256: str, progress: bool, limit: int | None) -> None:
    """Makes part the whole file, in several tries where a further one may help."""
    for attempt in range(TRIES):
        time.sleep(PAUSE * 2 ** (attempt - 1) if attempt else 0)
        try:
            _transfer(url, part, bool(sha256), progress, limit)
            break
        except HTTPError as e:
            if e.code == 416 and sha256:  # there is no more of it
                break
            problem = f"the server answered {e.code} {e.reason}"
            if e.code < 500 and e.code not in (408, 429):
                raise DownloadError(f"{url} cannot be downloaded ({problem}): check the address") from e
        except (URLError, HTTPException, ConnectionError, TimeoutError, SSLError) as e:
            problem = str(getattr(e, "reason", e)) or type(e).__name__
    else:
        raise DownloadError(f"{url} cannot be downloaded ({problem}; {TRIES} tries): check the network and run again")
    if not (found := sha256_of(part)).startswith(sha256):
        part.unlink()
        problem = f"has the SHA-256 {found} where {sha256} was expected, so the file was removed"
        raise DownloadError(f"{url} {problem}: check the sum and the source, then run again")


def _transfer(url: str, part: Path, has_sum: bool, progress: bool, limit: int | None) -> None:
    """One request: for the rest of part where a sum will tell whether it fits, else for the whole file."""
    kept = part.stat().st_size if has_sum and part.exists() else 0
    headers = {"User-Agent": "generatePGT"} | ({"Range": f"bytes={kept}-"} if kept else {})
    with build_opener(_SafeRedirect).open(Request(url, headers=headers), timeout=TIMEOUT) as response:
        start, most = kept if response.status == 206 else 0, limit or (0 if has_sum else LIMIT)
        total = None if response.length is None else start + response.length
        if not has_sum and response.headers.get_content_type() == "text/html":
            raise DownloadError(f"{url} gives a web page (text/html): download the file by hand, or give its address")
        told = Progress(total, part.stem, Talk("auto" if progress else "off"), "B", start, scaled=True)
        with ExitStack() as at_end, part.open("ab" if start else "wb") as f, told:
            while chunk := response.read(CHUNK):
                told.update(f.write(chunk))
                if most and max(f.tell(), total or 0) > most:
                    at_end.callback(part.unlink, missing_ok=True)
                    raise DownloadError(f"{url} has more than {most} bytes: give its #sha256 to get it all the same")
    if response.length:
        raise ConnectionError(f"the line broke, {response.length} bytes before the end")


class _SafeRedirect(HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not _ALLOWED.fullmatch(newurl):
            raise DownloadError(f"{req.full_url} redirects to {newurl}, not https: take another source")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
