"""A page on this machine to drop pictures into: a server of the standard library around a function that labels one.

GET  /                          the page (serve.html)
POST /label                     a picture as the body -> JSON: id, width, height, seconds; or error, one sentence
GET  /<id>/image.jpg            the picture; of the last few alone, from memory: no file is read or written
     /<id>/<kind>.png           its map or label; <kind>-overlay.jpg, over the picture; <kind>-cutout.png?at=0.5
"""

from __future__ import annotations

import html
import io
import json
import re
import secrets
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import BinaryIO
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image

from misc.errors import InputError, one_line
from misc.files.images import at_size, to_8_bit
from misc.files.labels import voc_palette
from misc.report.overview import cam_overlay, cutout, label_overlay

Found = Mapping[str, np.ndarray]  # image (H,W,3) uint8, and by kind (H,W) uint8
_KEPT = 4  # pictures whose results stay in memory
_DRAINED = 1 << 30  # bytes of an upload that is refused, but read to its end: only then does a browser show the answer
_SECONDS = 60  # that a connection may be silent
_PATH = re.compile(r"/([0-9a-f]{16})/([a-z_]+)(-overlay|-cutout)?\.(?:png|jpg)")
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'",
}


class Refused(Exception):
    """A request that is answered by a status and a sentence."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


@dataclass
class Desk:
    """What all requests share. label: a picture's file -> what is found, one at a time; titles: kind -> its name on the
    page, maps first; max_bytes: of an upload."""

    label: Callable[[BinaryIO], Found]
    titles: Mapping[str, str]
    max_bytes: int
    held: OrderedDict[str, Found] = field(default_factory=OrderedDict)
    turn: threading.Lock = field(default_factory=threading.Lock)

    def take(self, data: bytes) -> dict:
        """Labels the picture in data. Raises Refused for what is none."""
        started = time.perf_counter()
        with self.turn:
            try:
                found = self.label(io.BytesIO(data))
            except InputError as e:
                raise Refused(422, f"This picture cannot be labelled: {e}.") from e
            except OSError as e:
                raise Refused(415, f"This file {one_line(e)}.") from e
            number = secrets.token_hex(8)
            self.held[number] = {kind: _as_shown(array, found["image"]) for kind, array in found.items()}
            while len(self.held) > _KEPT:
                self.held.popitem(last=False)
        height, width = found["image"].shape[:2]
        seconds = round(time.perf_counter() - started, 1)
        print(f"a picture of {width} x {height} pixels, labelled in {seconds} s", flush=True)
        return {"id": number, "width": width, "height": height, "seconds": seconds, "kinds": [*found][1:]}

    def picture(self, path: str, query: str) -> tuple[bytes, str]:
        """-> the file at an address, and its type. Raises Refused where there is none."""
        match = _PATH.fullmatch(path)
        found = self.held.get(match[1], {}) if match else {}
        if not match or match[2] not in found:
            raise Refused(404, "There is nothing at this address: drop the picture again.")
        _, kind, how, array = *match.groups(), found[match[2]]
        if kind == "image":
            return _encoded(found["image"], "JPEG")
        if how is None:
            return _encoded(array, "PNG")
        inside = array >= 255 * _threshold(query)
        if how == "-cutout":
            return _encoded(cutout(found["image"], inside), "PNG")
        if kind == "cam":
            return _encoded(cam_overlay(found["image"], array), "JPEG")
        return _encoded(label_overlay(found["image"], inside, voc_palette()[[0, 5]]), "JPEG")

    def page(self) -> bytes:
        facts = {"titles": dict(self.titles), "maxBytes": self.max_bytes}
        text = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
        return text.replace("{{facts}}", html.escape(json.dumps(facts))).encode()


def _as_shown(array: np.ndarray, image: np.ndarray) -> np.ndarray:
    """A map of 16 bits at a quarter of the image's size -> one of 8 at the whole."""
    array = array if array.dtype == np.uint8 else to_8_bit(array)
    return array if array.ndim == 3 else at_size(array, image.shape[:2])


def _threshold(query: str) -> float:
    try:
        at = float(parse_qs(query).get("at", ["0.5"])[0])
    except ValueError:
        at = -1.0
    if not 0 <= at <= 1:
        raise Refused(400, "The threshold has to be a number from 0 to 1.")
    return max(at, 1 / 255)  # what is 0 is never inside


def _encoded(array: np.ndarray, kind: str) -> tuple[bytes, str]:
    file = io.BytesIO()
    options = {"quality": 90} if kind == "JPEG" else {"compress_level": 3}
    Image.fromarray(array).save(file, format=kind, **options)
    return file.getvalue(), f"image/{kind.lower()}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _SECONDS
    server: _Server

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _get(self) -> tuple[bytes, str]:
        address = urlsplit(self.path)
        if address.path == "/":
            return self.server.desk.page(), "text/html; charset=utf-8"
        return self.server.desk.picture(address.path, address.query)

    def _post(self) -> tuple[bytes, str]:
        data = self._body()
        if self.path != "/label":
            raise Refused(404, "There is nothing at this address.")
        return json.dumps(self.server.desk.take(data)).encode(), "application/json"

    def _body(self) -> bytes:
        length, most = self.headers.get("Content-Length", ""), self.server.desk.max_bytes
        if not length.isdecimal():
            self.close_connection = True
            raise Refused(411, "The request has to say how long its body is.")
        if int(length) <= most:
            data = self.rfile.read(int(length))
            if len(data) < int(length):
                raise ConnectionError("the upload was broken off")
            return data
        left = min(int(length), _DRAINED)
        while left > 0 and (got := len(self.rfile.read(min(left, 1 << 20)))):
            left -= got
        self.close_connection = True
        raise Refused(413, f"This file has {_mega(int(length))}, and at most {_mega(most)} are taken (--max_mb).")

    def _answer(self, work: Callable[[], tuple[bytes, str]]) -> None:
        try:
            self._require_from_here()
            status, (body, kind) = 200, work()
        except Refused as e:
            status, body, kind = e.status, json.dumps({"error": str(e)}).encode(), "application/json"
        except (ConnectionError, TimeoutError):
            self.close_connection = True
            return
        except Exception:
            traceback.print_exc()
            sentence = "This picture led to an error, which the terminal shows."
            status, body, kind = 500, json.dumps({"error": sentence}).encode(), "application/json"
        try:
            self.send_response(status)
            for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except (ConnectionError, TimeoutError):  # the page was closed
            self.close_connection = True

    def _require_from_here(self) -> None:
        """Pages of other sites, and names that somebody lets point to this machine, are not answered."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        name = urlsplit(f"//{host}").hostname or ""
        strange = self.server.is_local and name != "localhost" and not _is_loopback(name)
        if strange or (origin is not None and urlsplit(origin).netloc != host):
            self.close_connection = True
            raise Refused(403, "This server answers pages of its own alone.")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a line per picture is told by the desk."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, desk: Desk):
        self.desk, self.is_local = desk, host == "localhost" or _is_loopback(host)
        self.address_family = AF_INET6 if ":" in host else AF_INET
        super().__init__((host, port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _mega(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB"


def open_server(desk: Desk, host: str, port: int) -> ThreadingHTTPServer:
    """A server that listens; port 0 takes a free one. Raises InputError where that cannot be had."""
    try:
        return _Server(host, port, desk)
    except OSError as e:
        raise InputError(f"--host {host} --port {port}: {e.strerror or e}; choose another") from e
