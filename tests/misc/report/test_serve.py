"""The local page over plain HTTP, and as a person uses it, in a headless Chromium where one is installed."""

import base64
import http.client
import io
import json
import socket
import threading
import time

import numpy as np
import pytest
from PIL import Image

from misc.errors import InputError
from misc.files.images import read_image
from misc.report.overview import cutout
from misc.report.serve import Desk, open_server

TITLES = {"cam": "CAM", "cam_pamr": "pixel-wise label", "sal": "network's label"}
MEGA = 1_000_000


def labelled(file):
    """By brightness."""
    image = read_image(file)
    if image.shape[0] == 13:
        raise InputError("out of memory: lower max_side")
    if image.shape[0] == 14:
        raise RuntimeError("a fault")
    gray = image.mean(axis=2).astype(np.uint8)
    return {"image": image, "cam": gray, "cam_pamr": gray, "sal": 255 - gray}


@pytest.fixture(scope="module")
def server():
    server = open_server(Desk(labelled, TITLES, 32 * MEGA), "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def ask(server, method, path, body=None, headers=None):
    """-> status, type, body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()


def png(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def post(server, body, **headers):
    status, kind, answer = ask(server, "POST", "/label", body, headers)
    assert kind == "application/json"
    return status, json.loads(answer)


def test_a_picture_is_labelled_and_its_cutout_saved(server, photographs):
    status, told = post(server, png(photographs.cat))
    assert status == 200 and (told["height"], told["width"]) == photographs.cat.shape[:2]
    assert told["kinds"] == ["cam", "cam_pamr", "sal"]
    found = labelled(io.BytesIO(png(photographs.cat)))
    for kind in told["kinds"]:
        status, mime, body = ask(server, "GET", f"/{told['id']}/{kind}.png")
        assert (status, mime) == (200, "image/png")
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(body))), found[kind])
        status, mime, body = ask(server, "GET", f"/{told['id']}/{kind}-overlay.jpg")
        assert (status, mime) == (200, "image/jpeg") and Image.open(io.BytesIO(body)).size == (451, 300)
    for query, at in (("", 127.5), ("?at=0.4", 102)):
        _, mime, body = ask(server, "GET", f"/{told['id']}/sal-cutout.png{query}")
        picture = Image.open(io.BytesIO(body))
        assert picture.mode == "RGBA" and mime == "image/png"
        np.testing.assert_array_equal(np.asarray(picture), cutout(photographs.cat, found["sal"] >= at))
    assert ask(server, "GET", f"/{told['id']}/image.jpg")[:2] == (200, "image/jpeg")
    for query in ("?at=2", "?at=x", "?at=nan"):
        assert ask(server, "GET", f"/{told['id']}/sal-cutout.png{query}")[0] == 400


def test_what_is_no_picture_is_refused_by_a_sentence(server):
    assert post(server, b"some text, no picture")[0] == 415
    _, told = post(server, b"some text, no picture")
    assert told == {"error": "This file is no picture that can be read: it holds text."}
    assert post(server, b"")[0] == 415 and post(server, png(np.zeros((9, 9, 3), np.uint8))[:45])[0] == 415
    status, told = post(server, png(np.zeros((13, 9, 3), np.uint8)))
    assert status == 422 and "out of memory" in told["error"]


def test_a_fault_is_told_and_the_server_lives_on(server, capsys):
    status, told = post(server, png(np.zeros((14, 9, 3), np.uint8)))
    assert status == 500 and "terminal" in told["error"] and "RuntimeError: a fault" in capsys.readouterr().err
    assert ask(server, "GET", "/")[0] == 200


def test_a_hundred_megabytes_are_refused_by_a_sentence_and_not_kept(server):
    status, told = post(server, bytes(100 * MEGA))
    assert status == 413 and told == {"error": "This file has 100.0 MB, and at most 32.0 MB are taken (--max_mb)."}
    assert ask(server, "GET", "/")[0] == 200


def test_a_body_without_a_length_and_one_that_breaks_off(server):
    for lines in (b"Content-Length: -5", b"Content-Length: x", b"Transfer-Encoding: chunked"):
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as broken:
            broken.sendall(b"POST /label HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n\r\n")
            assert b"411" in broken.recv(100)
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as broken:
        broken.sendall(b"POST /label HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\nabc")
        broken.shutdown(socket.SHUT_WR)
        assert broken.recv(100) == b""
    assert ask(server, "GET", "/")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../README.md",
        "/%2e%2e/README.md",
        "//etc/passwd",
        "/serve.html",
        "/" + "0" * 16 + "/cam.png",
        "/a/../../b.png",
    ],
)
def test_no_file_of_the_machine_is_reached(server, path):
    status, kind, body = ask(server, "GET", path)
    assert (status, kind) == (404, "application/json") and b"nothing at this address" in body


def test_old_results_are_forgotten(server):
    ids = [post(server, png(np.full((9, 9, 3), v, np.uint8)))[1]["id"] for v in range(6)]
    assert [ask(server, "GET", f"/{one}/cam.png")[0] for one in ids] == [404, 404, 200, 200, 200, 200]


def test_other_sites_are_not_answered(server):
    picture, own = png(np.zeros((9, 9, 3), np.uint8)), f"127.0.0.1:{server.server_port}"
    assert post(server, picture, Origin="http://evil.example")[0] == 403
    assert post(server, picture, Host="evil.example:8000")[0] == 403
    assert post(server, picture, Origin=f"http://{own}")[0] == 200
    assert ask(server, "GET", "/", headers={"Host": "evil.example"})[0] == 403
    assert ask(server, "GET", "/", headers={"Host": f"localhost:{server.server_port}"})[0] == 200


def test_a_port_that_is_taken_and_a_host_that_is_none(server):
    for host, port in (("127.0.0.1", server.server_port), ("no.such.host.invalid", 0)):
        with pytest.raises(InputError, match=f"--host {host} --port {port}: .*choose another"):
            open_server(server.desk, host, port)


# ------------------------------------------------------------------------------------------------------ in a browser
@pytest.fixture
def downloads(browser, tmp_path):
    """The folder into which the browser saves."""
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    return tmp_path


def wait(condition, seconds=20):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return value


DROP = """
const [name, size, base64] = arguments, text = atob(base64), bytes = new Uint8Array(size || text.length);
if (!size) for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
const data = new DataTransfer();
data.items.add(new File([bytes], name));
const event = new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer: data});
document.getElementById("drop").dispatchEvent(event);
"""


def drop(browser, name, data=b"", size=0):
    browser.execute_script(DROP, name, size, base64.b64encode(data).decode())


def status(browser):
    return browser.find_element("id", "status").text


def test_dropping_a_picture_and_saving_its_cutout(server, browser, downloads, photographs):
    browser.get(f"http://127.0.0.1:{server.server_port}/")
    drop(browser, "my cat.png", png(photographs.cat))
    wait(lambda: "451 × 300 pixels" in status(browser))
    ready = "return [...document.querySelectorAll('#found img')].every((i) => i.complete && i.naturalWidth === 451)"
    wait(lambda: browser.execute_script(ready))
    captions = [e.text for e in browser.find_elements("css selector", "figcaption > span:first-child")]
    assert captions == ["image", *TITLES.values(), "cut-out"]
    browser.find_element("css selector", "#cutout a").click()
    saved = wait(lambda: [p for p in downloads.iterdir() if p.name == "my cat_cutout.png"])[0]
    inside = labelled(io.BytesIO(png(photographs.cat)))["sal"] >= 127.5
    np.testing.assert_array_equal(np.asarray(Image.open(saved)), cutout(photographs.cat, inside))
    browser.execute_script(
        "const s = document.querySelector('select'); s.value = 'cam_pamr'; s.dispatchEvent(new Event('change'))"
    )
    assert "cam_pamr-cutout.png?at=0.5" in browser.find_element("css selector", "#cutout img").get_attribute("src")
    assert [e["message"] for e in browser.get_log("browser")] == []


def test_a_text_and_a_hundred_megabytes_are_refused_on_the_page(server, browser):
    browser.get(f"http://127.0.0.1:{server.server_port}/")
    drop(browser, "notes.txt", b"some text, no picture")
    wait(lambda: status(browser) == "notes.txt: This file is no picture that can be read: it holds text.")
    drop(browser, "large.png", size=100 * MEGA)
    wait(lambda: status(browser) == "large.png has 100.0 MB, and at most 32.0 MB are taken.")
    assert "wrong" in browser.find_element("id", "status").get_attribute("class")
    # the server says so too, where a page does not look at the size
    told = browser.execute_async_script(
        "const done = arguments[0]; fetch('/label', {method: 'POST', body: new Blob([new Uint8Array(1e8)])})"
        ".then((a) => a.json()).then(done, (e) => done(String(e)))"
    )
    assert "at most 32.0 MB are taken" in told["error"]


def test_on_a_phone_and_in_the_dark(server, browser, photographs):
    browser.get(f"http://127.0.0.1:{server.server_port}/")
    drop(browser, "cat.png", png(photographs.cat))
    wait(lambda: "pixels" in status(browser))
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth && innerWidth == 390")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    for scheme, dark in (("dark", True), ("light", False)):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, colour[4:-1].split(","))) < 120) == dark
