"""The cluster's API as the harness uses it: JSON, watches, and the pods' own HTTP by way of the API server.

Called by `history` and `team`. It says what it was refused, and tries nothing again but its watches.
"""

import asyncio
import errno
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from tests.e2e.errors import E2EError

from modelcanary_operator.api import Kind, Object
from modelcanary_operator.kube import configuration

_SECONDS = 90.0
_WATCH_SECONDS = 240
_MERGE = "application/merge-patch+json"


class Refused(E2EError):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")
        self.status = status


class Unsent(E2EError):
    """The API server had closed the connection meanwhile: it has not read the request."""


class Cluster:
    """Use it as an async context manager."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self._session = session
        self._server = server

    @classmethod
    async def connect(cls, kubeconfig: Path) -> Self:
        found = await configuration(kubeconfig)
        tls = ssl.create_default_context(cafile=found.ssl_ca_cert)
        if found.cert_file:
            tls.load_cert_chain(found.cert_file, found.key_file)
        token = str(found.api_key.get("BearerToken", ""))
        connector = aiohttp.TCPConnector(ssl=tls, limit=100)
        headers = {"Accept": "application/json", **({"Authorization": token} if token else {})}
        return cls(aiohttp.ClientSession(connector=connector, headers=headers), found.host)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, kind: Kind, namespace: str, name: str) -> Object:
        return await self.call("GET", kind.path(namespace, name))

    async def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        try:
            return await self.get(kind, namespace, name)
        except Refused as error:
            if error.status == 404:
                return None
            raise

    async def list(self, kind: Kind, namespace: str, labels: str = "") -> list[Object]:
        found = await self.call("GET", kind.path(namespace), query={"labelSelector": labels} if labels else None)
        items: list[Object] = found.get("items") or []
        return items

    async def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        written = {"apiVersion": kind.api_version, "kind": kind.kind, **body}
        return await self.call("POST", kind.path(namespace), written)

    async def patch(self, kind: Kind, namespace: str, name: str, body: Object, subresource: str = "") -> Object:
        return await self.call("PATCH", kind.path(namespace, name, subresource), body, content=_MERGE)

    async def delete(self, kind: Kind, namespace: str, name: str, **options: object) -> None:
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background", **options}
        try:
            await self.call("DELETE", kind.path(namespace, name), body)
        except Refused as error:
            if error.status != 404:
                raise

    async def call(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: Mapping[str, str] | None = None,
        content: str = "application/json",
    ) -> Object:
        """Raises Refused, or E2EError where the API server does not answer."""
        try:
            text = await self._text(method, path, body, query, content)
        except Unsent:
            text = await self._text(method, path, body, query, content)
        found: Any = json.loads(text) if text else {}
        return found if isinstance(found, dict) else {"value": found}

    async def logs(self, namespace: str, pod: str, container: str, *, previous: bool = False) -> str:
        query = {"container": container, **({"previous": "true"} if previous else {})}
        return await self._text("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}/log", None, query, "")

    async def ask(self, namespace: str, pod: str, port: int, path: str) -> Object:
        """What a pod answers at a port, wherever the harness runs."""
        return await self.call("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}")

    async def metric(self, namespace: str, pod: str, port: int, name: str) -> float:
        """What a pod exports of itself: the sum over all labels."""
        text = await self._text(
            "GET", f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy/metrics", None, None, ""
        )
        samples = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        if not samples:
            raise E2EError(f"{namespace}/{pod} exports no {name}")
        return sum(float(line.rpartition(" ")[2]) for line in samples)

    async def watch(self, kind: Kind) -> AsyncIterator[tuple[str, Object]]:
        """(ADDED, MODIFIED or DELETED, object) of all namespaces, without an end; what was there comes as ADDED."""
        version = ""
        while True:
            query = {"watch": "true", "timeoutSeconds": str(_WATCH_SECONDS), "allowWatchBookmarks": "true"}
            try:
                if not version:
                    found = await self.call("GET", kind.path(""))
                    for item in found.get("items") or []:
                        yield "ADDED", item
                    version = found["metadata"]["resourceVersion"]
                async for event in self._events(kind.path(""), {**query, "resourceVersion": version}):
                    if event["type"] == "ERROR":
                        version = ""
                        break
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        yield event["type"], event["object"]
            except (aiohttp.ClientError, OSError, E2EError):
                await asyncio.sleep(0.5)

    async def _events(self, path: str, query: Mapping[str, str]) -> AsyncIterator[Object]:
        limit = aiohttp.ClientTimeout(total=None, sock_read=_WATCH_SECONDS + 30)
        rest = b""
        async with self._session.get(self._server + path, params=query, timeout=limit) as answer:
            if answer.status >= 400:
                raise Refused(answer.status, await answer.text())
            async for piece in answer.content.iter_any():
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if line:
                        yield json.loads(line)

    async def _text(
        self, method: str, path: str, body: Object | None, query: Mapping[str, str] | None, content: str
    ) -> str:
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content} if data is not None else {}
        limit = aiohttp.ClientTimeout(total=_SECONDS)
        try:
            async with self._session.request(
                method, self._server + path, data=data, params=query, headers=headers, timeout=limit
            ) as answer:
                text = await answer.text(errors="replace")
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise Unsent(f"{method} {path}: {error}") from error
            raise E2EError(f"{method} {path}: {type(error).__name__} {error}") from error
        if answer.status >= 400:
            raise Refused(answer.status, f"{method} {path}: {_message(text)}")
        return text


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, LookupError, TypeError):
        return text[:500]
