"""Calls of endpoints: signed, bounded, in time, never redirected, and silent about what is secret."""

import asyncio
import base64
import hashlib
import hmac
import logging
import ssl
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.cluster.pki import Authority
from tests.operator.receiver import Answer, Receiver, Request

from modelcanary_operator.caller import Call, Caller, Reply
from modelcanary_operator.endpoints import Endpoint, EndpointType
from modelcanary_operator.errors import EndpointFailed

CALL = Call(b'{"a": 1}', "/hook", id="team/run-1/RolledBack")


def play(
    story: Callable[[Receiver, Caller], Awaitable[None]], receiver: Receiver | None = None, time_limit: float = 10.0
) -> None:
    async def run() -> None:
        async with receiver or Receiver() as server, Caller(time_limit) as caller:
            await story(server, caller)

    asyncio.run(run())


def endpoint(url: str, **more: object) -> Endpoint:
    return Endpoint("retrain", EndpointType.WEBHOOK, url, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("written", "key"), [("s3cret\n", b"s3cret"), ("whsec_c2VjcmV0LWtleQ==", b"secret-key")])
def test_what_is_sent_can_be_checked_by_who_has_the_secret(tmp_path: Path, written: str, key: bytes) -> None:
    (tmp_path / "hmac").write_text(written)
    (tmp_path / "token").write_text("Bearer t0ken\n")

    async def story(server: Receiver, caller: Caller) -> None:
        known = endpoint(server.url, secret_file=tmp_path / "hmac", header_files={"Authorization": tmp_path / "token"})
        reply = await caller.call(known, CALL, 1700000000.9)
        assert reply.ok
        (request,) = server.requests
        assert (request.path, request.body) == ("/hook", CALL.body)
        assert request.headers["authorization"] == "Bearer t0ken"
        assert request.headers["idempotency-key"] == request.headers["webhook-id"] == CALL.id
        when, signature = request.headers["webhook-timestamp"], request.headers["webhook-signature"]
        content = f"{CALL.id}.{when}.".encode() + request.body
        expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
        assert (when, signature) == ("1700000000", f"v1,{expected}")

    play(story)


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    async def story(server: Receiver, caller: Caller) -> None:
        reply = await caller.call(endpoint(server.url), CALL, 0.0)
        assert (reply.status, reply.ok) == (307, False)
        assert len(server.requests) == 1

    def away(request: Request) -> Answer:
        return Answer(307, headers=(("location", "/elsewhere"),))

    play(story, Receiver(away))


def test_an_answer_is_read_as_far_as_it_may_be_long() -> None:
    async def story(server: Receiver, caller: Caller) -> None:
        assert len((await caller.call(endpoint(server.url), CALL, 0.0, most=1000)).body) == 1000

    play(story, Receiver(lambda _: Answer(200, b"x" * 5_000_000)))


def test_who_does_not_answer_in_time_does_not_answer() -> None:
    async def never(_: Request) -> Answer:
        await asyncio.Event().wait()
        return Answer()

    async def story(server: Receiver, caller: Caller) -> None:
        with pytest.raises(EndpointFailed, match="the endpoint retrain does not answer: TimeoutError"):
            await caller.call(endpoint(server.url), CALL, 0.0)

    play(story, Receiver(never), time_limit=0.3)


@pytest.mark.parametrize(
    ("content", "more"),
    [
        (None, "header"),
        ("", "header"),
        ("hidden\r\nX-Other: 1", "header"),
        ("hidden\x00", "header"),
        ("whsec_hidden!", "secret"),
        ("http://hid den", "url"),
        ("ftp://hidden", "url"),
        ("http://127.0.0.1:1/hidden", "url"),
    ],
)
def test_a_secret_that_cannot_be_used_is_not_told(
    tmp_path: Path, content: str | None, more: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content.encode())
    caplog.set_level(logging.INFO)

    async def story(server: Receiver, caller: Caller) -> None:
        fields = {
            "header": {"header_files": {"Authorization": file}},
            "secret": {"secret_file": file},
            "url": {"url_file": file},
        }
        known = endpoint("" if more == "url" else server.url, **fields[more])  # type: ignore[arg-type]
        with pytest.raises(EndpointFailed) as caught:
            await caller.call(known, CALL, 0.0)
        assert "retrain" in str(caught.value)
        assert "hidden" not in "".join(traceback.format_exception(caught.value))
        assert server.requests == []

    play(story)
    assert "hidden" not in caplog.text


def test_what_an_answer_says_becomes_one_line() -> None:
    assert Reply(409, b" no:\n\x1b[31m a freeze \xff").text() == "no: [31m a freeze \N{REPLACEMENT CHARACTER}"
    assert len(Reply(409, b"x" * 999).text()) == 300


def test_a_replaced_ca_file_is_followed_at_the_next_call(tmp_path: Path) -> None:
    """A mounted Secret is replaced while the operator runs; nobody restarts it for that."""
    one, two = Authority(tmp_path / "one"), Authority(tmp_path / "two")
    two.issue("hook", "/CN=hook", "DNS:localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(two.folder / "hook.crt", two.folder / "hook.key")
    bundle = tmp_path / "bundle.crt"

    async def story(server: Receiver, caller: Caller) -> None:
        known = endpoint(server.url, ca_file=bundle)
        for problem in ("no certificate", "", None):
            if problem is not None:
                bundle.write_text(problem)
            else:
                bundle.unlink()
            with pytest.raises(EndpointFailed, match="caFile"):
                await caller.call(known, CALL, 0.0)
        for authority, trusted in ((one, False), (two, True), (one, False), (two, True)):
            bundle.write_bytes((authority.folder / "ca.crt").read_bytes())
            if trusted:
                assert (await caller.call(known, CALL, 0.0)).ok
            else:
                with pytest.raises(EndpointFailed, match="does not answer"):
                    await caller.call(known, CALL, 0.0)
        assert len(server.requests) == 2

    play(story, Receiver(tls=context))


def test_a_path_is_added_before_what_the_url_asks_for() -> None:
    async def story(server: Receiver, caller: Caller) -> None:
        for written in ("/base/?tenant=a%2Fb&x=1", "/base?tenant=a%2Fb&x=1"):
            await caller.call(endpoint(f"{server.url}{written}"), CALL, 0.0)
        await caller.call(endpoint(f"{server.url}/kept/?a=1"), Call(b""), 0.0)
        assert [request.path for request in server.requests] == [
            *2 * ["/base/hook?tenant=a%2Fb&x=1"],
            "/kept/?a=1",
        ]

    play(story)


def test_an_endpoint_is_called_through_its_proxy_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(server: Receiver, caller: Caller) -> None:
        away = endpoint("http://only.by.proxy.invalid/x", proxy=server.url)
        assert (await caller.call(away, CALL, 0.0)).ok
        assert server.requests[0].path == "http://only.by.proxy.invalid/x/hook"
        monkeypatch.setenv("HTTP_PROXY", server.url)
        with pytest.raises(EndpointFailed):
            await caller.call(endpoint("http://only.by.proxy.invalid/x"), CALL, 0.0)

    play(story)
