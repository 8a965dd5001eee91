"""An S3 server on the loopback address that fails as real ones do: moto's, behind a layer that answers some requests by
500 or 503, before or after it has done them, and cuts some bodies short of the announced length."""

import random
import threading
from collections import Counter
from contextlib import contextmanager


class Faults:
    """A WSGI layer. rate: share of the requests that fail; counts: method, and kind of fault, -> how many."""

    def __init__(self, app, rate, seed=0):
        self.app, self.rate, self.random = app, rate, random.Random(seed)
        self.counts, self.lock = Counter(), threading.Lock()

    def __call__(self, environ, start_response):
        method = environ["REQUEST_METHOD"]
        with self.lock:
            fault = self.random.choice(("before", "after", "cut")) if self.random.random() < self.rate else None
            self.counts["LIST" if "list-type" in environ["QUERY_STRING"] else method] += 1
            self.counts[fault or "none"] += 1
        if fault == "before":
            return self.refuse(start_response, "503 Slow Down")
        held = []
        body = b"".join(self.app(environ, lambda *told: held.extend(told)))
        status, headers = held[:2]
        if fault == "after":
            return self.refuse(start_response, "500 Internal Server Error")
        start_response(status, headers)
        return [body[: len(body) // 2] if fault == "cut" and method == "GET" else body]

    def refuse(self, start_response, status):
        start_response(status, [("Content-Length", "0")])
        return [b""]


@contextmanager
def object_store(rate=0.0, seed=0):
    """-> the layer, and the environment in which fsspec finds the server."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_):
            pass

    layer = Faults(DomainDispatcherApplication(create_backend_app), rate, seed)
    server = make_server("127.0.0.1", 0, layer, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    env = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        yield layer, env
    finally:
        server.shutdown()
