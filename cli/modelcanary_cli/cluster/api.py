"""The API server as the command line sees it: the `kubernetes` package's client, configured as `kubectl` is.

The seam of the cluster's commands: they know no client, and foreign errors become ours here. Objects are JSON as the
API server has it. Every call has a time limit.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelcanary_cli.cluster.errors import ClusterError, ForbiddenError, NotFoundError, RefusedError
from modelcanary_cli.errors import InputError
from modelcanary_operator.api import Kind, Object

_LIMIT = (5.0, 20.0)  # seconds: to connect, and for the answer
#: A watch is ended by the server after so long, and begun again.
WATCH_SECONDS = 60
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_JSON = "application/json"
_MERGE = "application/merge-patch+json"


class Cluster:
    """One cluster and the namespace that commands mean by default. Raises InputError where there is no way to it."""

    def __init__(self, kubeconfig: Path | None = None, context: str | None = None) -> None:
        # A second of imports: for these commands only.
        from kubernetes import client, config  # noqa: PLC0415

        settings = client.Configuration()
        settings.retries = False
        in_pod = kubeconfig is None and context is None and not _has_kubeconfig(config) and _ACCOUNT.is_dir()
        source = str(kubeconfig) if kubeconfig is not None else "the kubeconfig"
        try:
            if in_pod:
                config.load_incluster_config(client_configuration=settings)
                self.namespace = (_ACCOUNT / "namespace").read_text().strip()
            else:
                path = None if kubeconfig is None else str(kubeconfig)
                config.load_kube_config(path, context, client_configuration=settings)
                self.namespace = _namespace(config, path, context)
        except (config.ConfigException, OSError, TypeError, ValueError) as error:
            remedy = "give --kubeconfig FILE or --context NAME, or set KUBECONFIG"
            raise InputError(source, f"leads to no cluster: {error}", remedy) from error
        self._client = client.ApiClient(settings)
        self._client.user_agent = "modelcanary"
        self._host = str(settings.host)

    def close(self) -> None:
        self._client.close()

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """Raises NotFoundError."""
        return self._call("GET", kind.path(namespace, name))

    def list(
        self,
        kind: Kind,
        namespace: str,
        labels: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> list[Object]:
        """All of them; without a namespace, of all namespaces."""
        query = _selectors(labels, fields)
        found: list[Object] = self._call("GET", kind.path(namespace), query=query).get("items") or []
        return found

    def patch(self, kind: Kind, namespace: str, name: str, patch: Object) -> Object:
        """A JSON merge patch."""
        query = {"fieldManager": "modelcanary-cli"}
        return self._call("PATCH", kind.path(namespace, name), query=query, body=patch)

    def watch(self, kind: Kind, namespace: str, name: str = "") -> Iterator[Object]:
        """Each change of one object, or of all, for a minute at most. Its first events are what there is."""
        query = {"watch": "1", "timeoutSeconds": str(WATCH_SECONDS), "allowWatchBookmarks": "true"}
        query |= _selectors(None, {"metadata.name": name} if name else None)
        limit = (_LIMIT[0], WATCH_SECONDS + 10.0)
        what, answer = self._send("GET", kind.path(namespace), query, None, limit)
        try:
            rest = b""
            for piece in answer.response.stream(65536):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event.get("type") == "ERROR":
                        raise ClusterError(f"{what}: {(event.get('object') or {}).get('message', 'the watch ended')}")
                    yield event
        except (_http_error(), OSError, ValueError) as error:
            raise ClusterError(f"{what}: the watch broke: {error}") from error
        finally:
            answer.response.close()

    def _call(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Object | None = None
    ) -> Object:
        what, answer = self._send(method, path, query or {}, body, _LIMIT)
        try:
            found: Any = json.loads(answer.read())
        except (_http_error(), OSError, ValueError) as error:
            raise ClusterError(f"{what}: the answer cannot be read: {error}") from error
        return found if isinstance(found, dict) else {}

    def _send(
        self, method: str, path: str, query: Mapping[str, str], body: Object | None, limit: tuple[float, float]
    ) -> tuple[str, Any]:
        """The answer's head; its body is still to be read."""
        from kubernetes.client.exceptions import ApiException  # noqa: PLC0415

        what = f"{method} {path}"
        headers = {"Accept": _JSON, "Content-Type": _MERGE if method == "PATCH" else _JSON}
        try:
            request = self._client.param_serialize(
                method,
                path,
                query_params=list(query.items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = self._client.call_api(*request, _request_timeout=limit)
        except (ApiException, _http_error(), OSError) as error:
            why = getattr(error, "reason", None) or error
            raise ClusterError(f"the API server {self._host} does not answer: {why}") from error
        if answer.status >= 400:
            raise _refusal(what, answer.status, answer.read())
        return what, answer


def _http_error() -> type[Exception]:
    import urllib3  # noqa: PLC0415

    return urllib3.exceptions.HTTPError


def _refusal(what: str, status: int, body: bytes) -> Exception:
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        message = body.decode(errors="replace")[:300] or f"status {status}"
    if status == 404:
        return NotFoundError(message)
    if status == 403:
        return ForbiddenError(message)
    if status == 401:
        return RefusedError(f"{message}: the API server does not know you; log in again, or choose another --context")
    if status in (408, 429) or status >= 500:
        return ClusterError(f"{what}: {status} {message}")
    return RefusedError(message)


def _selectors(labels: Mapping[str, str] | None, fields: Mapping[str, str] | None) -> dict[str, str]:
    written = {"labelSelector": labels, "fieldSelector": fields}
    return {
        key: ",".join(f"{name}={value}" for name, value in items.items()) for key, items in written.items() if items
    }


def _has_kubeconfig(config: Any) -> bool:
    places = str(config.KUBE_CONFIG_DEFAULT_LOCATION).split(os.pathsep)
    return any(Path(place).expanduser().is_file() for place in places if place)


def _namespace(config: Any, path: str | None, context: str | None) -> str:
    every, active = config.list_kube_config_contexts(path)
    chosen = active if context is None else next((item for item in every if item["name"] == context), active)
    return str((chosen.get("context") or {}).get("namespace") or "default")
