"""What answers instant queries as Prometheus does: one number for each query, which a test may change."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from tests.listening import listening


@contextmanager
def answering(values: Mapping[str, float]) -> Iterator[str]:
    """Its URL; `values` by query."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            (query,) = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())["query"]
            sample = {"metric": {}, "value": [time.time(), str(values[query])]}
            body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": [sample]}}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with listening(server) as url:
        yield url
