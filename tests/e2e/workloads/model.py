"""A light model server: Open Inference V2 and KServe V1 answers of `truth`, as good or broken as the environment says.

Runs in the pods of most scenarios: standard library only. `MODEL_FAULT` is what goes wrong:

- `nan`, `html`, `500`, `hang`: each answer to a prediction; the probes are well
- `crash`: it ends at once; `die`: with its next prediction
- `unready`: its readiness probe fails
- `exit-at-once`: on SIGTERM, with requests under way

`GET /fault/NAME` makes it go wrong while it runs.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field

from tests.e2e.workloads.truth import CLASSES, FEATURES, probabilities

_NAME = "colours"
_READY = frozenset({"/v2/health/ready", "/v2/health/live", f"/v2/models/{_NAME}/ready"})
#: After SIGTERM it is still known for a moment: for so long it takes connections, answers, and tells them to close.
_LINGER = 3.0


@dataclass(slots=True)
class Server:
    version: str
    mix: float
    fault: str
    ending: bool = False
    predictions: int = 0
    first: float = 0.0
    last: float = 0.0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._exchange(reader, writer):
                pass
        self.writers.discard(writer)
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        status, kind, answer = await self._answer(method, path.partition("?")[0], body)
        last = self.ending or headers.get("connection", "").lower() == "close"
        writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(answer)}\r\n"
            f"Connection: {'close' if last else 'keep-alive'}\r\n\r\n".encode()
            + answer
        )
        await writer.drain()
        return not last

    async def _answer(self, method: str, path: str, body: bytes) -> tuple[int, str, bytes]:
        if method == "GET" and path in _READY:
            return (503 if self.fault == "unready" else 200), "text/plain", b"ok"
        if method == "GET" and path == "/stats":
            seen = {"predictions": self.predictions, "first": self.first, "last": self.last}
            return 200, "application/json", json.dumps(seen).encode()
        if method == "GET" and path.startswith("/fault/"):
            self.fault = path.removeprefix("/fault/")
            return 200, "application/json", b"{}"
        if method != "POST" or not path.startswith(("/v2/models/", "/v1/models/")):
            return 404, "text/plain", b"no such path"
        self.predictions += 1
        self.last = time.time()
        self.first = self.first or self.last
        if self.fault == "die":
            os._exit(1)
        if self.fault == "hang":
            await asyncio.sleep(3600)
        if self.fault == "500":
            return 500, "application/json", b'{"error": "out of memory"}'
        if self.fault == "html":
            return 200, "text/html", b"<html><body>Welcome</body></html>"
        return 200, "application/json", self._predict(path, json.loads(body), broken=self.fault == "nan")

    def _predict(self, path: str, asked: dict[str, object], *, broken: bool) -> bytes:
        if path.startswith("/v1/"):
            rows = asked["instances"]
        else:
            data = asked["inputs"][0]["data"]  # type: ignore[index]
            rows = [data[at : at + FEATURES] for at in range(0, len(data), FEATURES)]
        answers = [probabilities(row, self.mix) for row in rows]  # type: ignore[attr-defined]
        if broken:
            answers = [[float("nan")] * len(CLASSES) for _ in answers]
        if path.startswith("/v1/"):
            return json.dumps({"predictions": answers, "version": self.version}).encode()
        output = {
            "name": "probabilities",
            "datatype": "FP64",
            "shape": [len(answers), len(CLASSES)],
            "data": [value for answer in answers for value in answer],
        }
        named = {"model_name": _NAME, "model_version": self.version, "id": asked.get("id", "")}
        return json.dumps({**named, "outputs": [output]}).encode()

    async def end(self) -> None:
        """As a well-behaved server ends: what is open is answered, then closed."""
        self.ending = True
        await asyncio.sleep(_LINGER)
        for writer in self.writers:
            writer.close()


async def serve() -> None:
    server = Server(
        os.environ["MODEL_VERSION"], float(os.environ.get("MODEL_MIX", "0.1")), os.environ.get("MODEL_FAULT", "")
    )
    if server.fault == "crash":
        sys.exit("the weights cannot be read")
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    if server.fault == "exit-at-once":
        loop.add_signal_handler(signal.SIGTERM, os._exit, 0)
    else:
        loop.add_signal_handler(signal.SIGTERM, ended.set)
    listening = await asyncio.start_server(server.talk, "0.0.0.0", int(os.environ.get("MODEL_PORT", "8080")))
    print(f"model {server.version} listens", flush=True)
    await ended.wait()
    await server.end()
    listening.close()


if __name__ == "__main__":
    asyncio.run(serve())
