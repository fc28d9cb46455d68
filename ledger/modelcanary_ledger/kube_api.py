"""The Kubernetes API as the ledger sees it: one question, whose a token is. Asked by `token_review`, made by `main`.

The pod's own token and the API's certificate authority are files that are replaced while the process runs, so both are
read anew. Every foreign error becomes NotReviewed. It must not know callers, nor keep an answer.
"""

import asyncio
import ssl
from pathlib import Path

import httpx
import msgspec

from modelcanary_gate.protocol import AUDIENCE
from modelcanary_ledger.errors import NotReviewed
from modelcanary_ledger.token_review import Identity

_PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
_SECONDS = 3.0  # in all: callers wait for it, and those that are known need not
_CONNECTIONS = 16


class _User(msgspec.Struct):
    username: str = ""
    extra: dict[str, list[str]] = {}


class _Status(msgspec.Struct):
    authenticated: bool = False
    user: _User = msgspec.field(default_factory=_User)
    audiences: list[str] = []
    error: str = ""


class _Answer(msgspec.Struct):
    status: _Status = msgspec.field(default_factory=_Status)


class KubeApi:
    """`review` may be called at once by many; `close` it in the end."""

    def __init__(self, url: str, account: Path) -> None:
        """`account`: the folder with the pod's `token`, and the API's `ca.crt`."""
        self._url = url
        self._account = account
        self._stamp: tuple[int, int] | None = None
        self._http: httpx.AsyncClient | None = None
        self._retired: httpx.AsyncClient | None = None  # its last answers may be under way

    async def review(self, token: str) -> Identity | None:
        """None where the API knows it not, or for another audience. Raises NotReviewed."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        try:
            own = (self._account / "token").read_text().strip()
            async with asyncio.timeout(_SECONDS):
                client = await self._client()
                answer = await client.post(_PATH, json=body, headers={"Authorization": f"Bearer {own}"})
        except (httpx.HTTPError, OSError, UnicodeDecodeError) as error:  # TimeoutError is an OSError
            raise _unanswered(f"{type(error).__name__} {error}") from error
        if not answer.is_success:
            raise _unanswered(f"it answers {answer.status_code}")
        try:
            found = msgspec.json.decode(answer.content, type=_Answer).status
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _unanswered("its answer cannot be read") from error
        # An API server that does not know audiences names none: then the token may be meant for others.
        if not found.authenticated or AUDIENCE not in found.audiences:
            return None
        pods = found.user.extra.get("authentication.kubernetes.io/pod-name") or [""]
        return Identity(found.user.username, pods[0])

    async def close(self) -> None:
        for client in (self._http, self._retired):
            if client is not None:
                await client.aclose()

    async def _client(self) -> httpx.AsyncClient:
        """One that trusts the certificate authority as its file has it now."""
        authority = self._account / "ca.crt"
        found = authority.stat()
        stamp = (found.st_mtime_ns, found.st_ino)
        if self._http is None or stamp != self._stamp:
            # The ledger's own proxy settings are never meant for the API.
            fresh = httpx.AsyncClient(
                base_url=self._url,
                verify=ssl.create_default_context(cafile=str(authority)),
                timeout=_SECONDS,
                trust_env=False,
                limits=httpx.Limits(max_connections=_CONNECTIONS),
            )
            gone, self._retired = self._retired, self._http
            self._http, self._stamp = fresh, stamp
            if gone is not None:
                await gone.aclose()
        return self._http


def _unanswered(why: str) -> NotReviewed:
    return NotReviewed(
        f"the Kubernetes API does not say whose the token is: {why}",
        remedy="send it again; if it lasts, the ledger's ServiceAccount needs create on tokenreviews "
        "(system:auth-delegator)",
    )
