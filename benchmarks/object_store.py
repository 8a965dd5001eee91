"""python -m benchmarks.object_store IMAGES [--rate 0.05] [--limit 100] [--shard_size 25]

Run it from the root of the repository, with OMP_NUM_THREADS=1 (python -m pip install -r requirements-urls.txt
"moto[server]"). run_sample.py of a folder of images: on this machine; from bucket to bucket of an S3 server on the
loopback address, of which a share of the requests fails; that command again; and with the passes over all images.
Seconds, requests, and whether all maps and labels are the same bytes.

The server is moto's, behind a layer that answers some requests by 500 or 503, before or after it has done them, and
cuts some bodies short of the announced length.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path


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


def client(env):
    import boto3

    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": env["AWS_DEFAULT_REGION"]}
    return boto3.client("s3", endpoint_url=env["AWS_ENDPOINT_URL"], **keys)


def time_of_children():
    return sum(os.times()[2:4])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--shard_size", type=int, default=25)
    args = parser.parse_args()
    files = sorted(args.images.glob("*.jpg"))[: args.limit]
    with tempfile.TemporaryDirectory() as folder, object_store() as (layer, env):
        s3 = client(env)
        for bucket in ("images", "results"):
            s3.create_bucket(Bucket=bucket)
        for file in files:
            s3.put_object(Bucket="images", Key=f"photos/{file.name}", Body=file.read_bytes())
        flags = ["--limit", str(len(files)), "--shard_size", str(args.shard_size), "--device", "cpu", "--quiet"]
        flags += ["--num_workers", "1", "--mask_dir", "none"]
        local = ["run_sample.py", str(args.images), "--result_dir", folder, "--shard", "0/1", *flags]
        far = ["run_sample.py", "s3://images/photos", "--result_dir", "s3://results/run", *flags]
        passes = [
            "--eval_pass",
            "False",
            "--doubtful_pass",
            "False",
            "--overview_pass",
            "False",
            "--report_pass",
            "False",
        ]
        for words in (local + passes, far + passes, far + passes, far):
            layer.counts.clear()
            layer.rate = args.rate
            started, before = time.perf_counter(), time_of_children()
            subprocess.run([sys.executable, *words], env={**os.environ, **env}, check=True, stdout=subprocess.DEVNULL)
            spent = f"{time.perf_counter() - started:.1f} s, {time_of_children() - before:.1f} s of processor time"
            print(f"{spent}, {dict(sorted(layer.counts.items()))}: {' '.join(words)}", flush=True)
        layer.rate = 0
        labels = {
            str(p.relative_to(folder)): p for p in Path(folder).glob("*/*.png") if p.parent.name != "report_files"
        }
        same = [
            p.read_bytes() == s3.get_object(Bucket="results", Key=f"run/{n}")["Body"].read() for n, p in labels.items()
        ]
        print(f"{sum(same)} of {len(same)} maps and labels are the same bytes")


if __name__ == "__main__":
    main()
