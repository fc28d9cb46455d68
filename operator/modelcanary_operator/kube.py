"""The seam's real side: the `kubernetes` package's asyncio client, with a rate limit and a time limit for each call.

Made by `main`. Every foreign error becomes one of ours; nothing is tried again here.
"""

import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.exceptions import ApiException

from modelcanary_operator.api import Kind, Object
from modelcanary_operator.bucket import Bucket
from modelcanary_operator.errors import ApiError, Conflict, NotFound, Refused, SettingsError, Unavailable
from modelcanary_operator.names import MANAGER

_TIME_LIMIT = 10.0
_JSON = "application/json"
_MERGE = "application/merge-patch+json"
_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


async def configuration(kubeconfig: Path | None) -> Configuration:
    """Of the file, or of the pod that this runs in. Raises SettingsError."""
    found = Configuration()
    try:
        if kubeconfig is not None:
            await config.load_kube_config(config_file=str(kubeconfig), client_configuration=found)
        else:
            config.load_incluster_config(client_configuration=found)
    except (config.ConfigException, OSError) as error:
        raise SettingsError(f"no API server: {error}; give --kubeconfig, or run in a pod") from error
    found.connection_pool_maxsize = 32
    return found


class Kube:
    """Use it as an async context manager. Implements `api.Api`."""

    def __init__(self, settings: Configuration, bucket: Bucket, time_limit: float = _TIME_LIMIT) -> None:
        self._client = ApiClient(settings)
        self._client.user_agent = "modelcanary-operator"
        self._bucket = bucket
        self._time_limit = time_limit
        self._date = ("", 0.0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    def server_time(self) -> float:
        """The API server's, by its last answer, to the second; this machine's where there was none that says it."""
        date, then = self._date
        try:
            return parsedate_to_datetime(date).timestamp() + time.monotonic() - then
        except ValueError:
            return time.time()

    async def get(self, kind: Kind, namespace: str, name: str) -> Object:
        return await self._call("GET", kind.path(namespace, name))

    async def list_metadata(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> list[Object]:
        answer = await self._call("GET", kind.path(namespace), query=_selected(labels), accept=_METADATA)
        found: list[Object] = answer.get("items") or []
        return found

    async def list(self, kind: Kind, namespace: str, labels: Mapping[str, str] | None = None) -> list[Object]:
        found: list[Object] = (await self._call("GET", kind.path(namespace), query=_selected(labels))).get(
            "items"
        ) or []
        return found

    async def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        return await self._call("POST", kind.path(namespace), body=body, query={"fieldManager": MANAGER})

    async def replace(self, kind: Kind, namespace: str, name: str, body: Object, subresource: str = "") -> Object:
        path = kind.path(namespace, name, subresource)
        return await self._call("PUT", path, body=body, query={"fieldManager": MANAGER})

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Object) -> Object:
        path = kind.path(namespace, name)
        return await self._call("PATCH", path, body=patch, query={"fieldManager": MANAGER}, content=_MERGE)

    async def delete(self, kind: Kind, namespace: str, name: str, version: str | None = None) -> None:
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if version is not None:
            options["preconditions"] = {"resourceVersion": version}
        await self._call("DELETE", kind.path(namespace, name), body=options)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: Object | None = None,
        query: Mapping[str, str] | None = None,
        content: str = _JSON,
        accept: str = _JSON,
    ) -> Object:
        await self._bucket.take()
        headers = {"Accept": accept, "Content-Type": content}
        what = f"{method} {path}"
        try:
            request = await self._client.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = await self._client.call_api(*request, _request_timeout=self._time_limit)
            text = await answer.read()
            self._date = (answer.headers.get("Date", ""), time.monotonic())
        except ApiException as error:
            raise _api_error(what, int(error.status or 0), str(error.body or error.reason or "")) from error
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise Unavailable(0, f"{what}: {type(error).__name__} {error}") from error
        if answer.status >= 400:
            raise _api_error(what, answer.status, text.decode(errors="replace"))
        return _decoded(what, answer.status, text)


def _selected(labels: Mapping[str, str] | None) -> dict[str, str]:
    return {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())} if labels else {}


def _decoded(what: str, status: int, text: bytes) -> Object:
    try:
        found: Any = json.loads(text)
    except ValueError as error:
        raise Unavailable(status, f"{what}: the answer is not JSON") from error
    return found if isinstance(found, dict) else {}


def _api_error(what: str, status: int, text: str) -> ApiError:
    try:
        message = str(json.loads(text).get("message", text))
    except (ValueError, AttributeError):
        message = text
    kinds: dict[int, type[ApiError]] = {404: NotFound, 409: Conflict, 410: NotFound}
    fallback = Unavailable if status in (0, 401, 408, 429) or status >= 500 else Refused
    return kinds.get(status, fallback)(status, f"{what}: {message[:500]}")
