"""What models answer, and what the client gets of it: answers in bytes, and the outcome as a line of text.

`200 ok; kept; reused`: that status and body, the client's connection serves on, and so does the model's. `(cut)`: the
client is shown that it is not whole, by a connection that breaks off. A status of 500 or more is the sidecar's own.
"""

from tests.sidecar.framing.cases import Answer
from tests.sidecar.framing.request_cases import escaped

CASES: list[Answer] = []
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"  # what must never be the answer to another request
KEPT, DROPPED, BAD, CUT = (
    "200 ok; kept; reused",
    "200 ok; kept; dropped",
    "502; closed; dropped",
    "(cut); closed; dropped",
)
#: Whether something was passed on before the fault came depends on how the bytes come.
LATE = f"{BAD} or 200 ok {CUT} or 200 o {CUT} or 200 {CUT}"


def add(
    group: str, name: str, wire: bytes, does: str, *, ends: bool = False, method: str = "GET", version: str = "1.1"
) -> None:
    CASES.append(Answer(f"{group}: {name}", wire, does, ends, method, version))


def ok(*lines: str, body: bytes = b"ok", status: str = "HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([line.encode("latin-1") for line in (status, *lines)]) + b"\r\n\r\n" + body


CL, TE = "Content-Length: 2", "Transfer-Encoding: chunked"
C2, C0 = b"2\r\nok\r\n0\r\n\r\n", b"0\r\n\r\n"

# -- length
add("length", "plain", OK, KEPT)
add("length", "zero", ok("Content-Length: 0", body=b""), "200; kept; reused")
add("length", "leading zeros", ok("Content-Length: 002"), KEPT)
add("length", "spaces around", ok("Content-Length:   2  "), KEPT)
add("length", "tab before", ok("Content-Length:\t2"), KEPT)
add("length", "body too short", ok("Content-Length: 10"), f"200 ok {CUT}", ends=True)
add("length", "no body at all", ok("Content-Length: 10", body=b""), f"200 {CUT}", ends=True)
add("length", "body too short, kept open", ok("Content-Length: 10"), f"200 ok {CUT}")
add("length", "body too long", ok("Content-Length: 1"), "200 o; kept; dropped")
add("length", "twice, the same", ok(CL, CL), BAD)
add("length", "twice, different", ok(CL, "Content-Length: 3"), BAD)
add("length", "on POST", OK, KEPT, method="POST")
for name, value in {
    "plus": "+2",
    "minus": "-2",
    "hex": "0x2",
    "list": "2, 2",
    "two": "2 2",
    "empty": "",
    "text": "two",
    "2^64+2": "18446744073709551618",
    "forty digits": "1" * 40,
    "point": "2.0",
    "nul": "2\x00",
}.items():
    add("length", name, ok(f"Content-Length: {value}"), BAD, ends=True)
add("length", "space before colon", ok("Content-Length : 2"), BAD, ends=True)
add("length", "absent, until the end", ok(body=b"ok"), DROPPED, ends=True)
add("length", "absent, nothing until the end", ok(body=b""), "200; kept; dropped", ends=True)
add("length", "absent, a large body until the end", ok(body=b"x" * 3000), f"200 {'x' * 3000}; kept; dropped", ends=True)
add("length", "absent, to HTTP/1.0", ok(body=b"ok"), "200 ok; closed; dropped", ends=True, version="1.0")
add("length", "absent, to HEAD", ok(body=b""), "200; kept; dropped", ends=True, method="HEAD")
add("length", "absent, an answer in the body", ok(body=b"x") + EVIL, f"200 x{escaped(EVIL)}; kept; dropped", ends=True)
add("length", "to HTTP/1.0", OK, "200 ok; closed; reused", version="1.0")

# -- coding
add("coding", "chunked", ok(TE, body=C2), KEPT)
add("coding", "chunked, empty", ok(TE, body=C0), "200; kept; reused")
add("coding", "capitals", ok("TRANSFER-ENCODING: CHUNKED", body=C2), KEPT)
add("coding", "chunked, to HTTP/1.0", ok(TE, body=C2), "200 ok; closed; reused", version="1.0")
add("coding", "in pieces", ok(TE, body=b"1\r\no\r\n1\r\nk\r\n0\r\n\r\n"), KEPT)
add("coding", "extension", ok(TE, body=b"2;a=b\r\nok\r\n0\r\n\r\n"), KEPT)
add("coding", "trailer", ok(TE, body=b"2\r\nok\r\n0\r\nX-T: 1\r\n\r\n"), KEPT)
add("coding", "trailer with a length", ok(TE, body=b"2\r\nok\r\n0\r\nContent-Length: 9\r\n\r\n"), LATE)
add("coding", "and length", ok(CL, TE, body=C2), BAD, ends=True)
add("coding", "and length, reversed", ok(TE, CL, body=C2), BAD, ends=True)
for name, value in {
    "gzip": "gzip",
    "gzip, chunked": "gzip, chunked",
    "identity": "identity",
    "xchunked": "xchunked",
    "chunked, identity": "chunked, identity",
    "chunked twice": "chunked, chunked",
    "empty": "",
    "nul": "chunked\x00",
}.items():
    add("coding", name, ok(f"Transfer-Encoding: {value}", body=C2), BAD, ends=True)
add("coding", "two lines", ok(TE, TE, body=C2), BAD, ends=True)
add("coding", "space before colon", ok("Transfer-Encoding : chunked", body=C2), BAD, ends=True)
add("coding", "folded", ok("Transfer-Encoding:\r\n chunked", body=C2), BAD, ends=True)
add("coding", "in HTTP/1.0", ok(TE, body=C2, status="HTTP/1.0 200 OK"), DROPPED, ends=True)
add("coding", "no last chunk", ok(TE, body=b"2\r\nok\r\n"), f"200 ok {CUT}", ends=True)
add("coding", "chunk cut", ok(TE, body=b"5\r\nok"), f"200 ok {CUT}", ends=True)
add("coding", "last line missing", ok(TE, body=b"2\r\nok\r\n0\r\n"), f"200 ok {CUT}", ends=True)
add("coding", "size is no number", ok(TE, body=b"x\r\nok\r\n0\r\n\r\n"), LATE, ends=True)
add(
    "coding",
    "second size is no number",
    ok(TE, body=b"2\r\nok\r\nx\r\n"),
    LATE,
    ends=True,
)
add("coding", "LF in chunks", ok(TE, body=b"2\nok\n0\n\n"), LATE, ends=True)
add(
    "coding",
    "data longer than its size",
    ok(TE, body=b"1\r\nok\r\n0\r\n\r\n"),
    LATE,
    ends=True,
)
add("coding", "size of 2^64+2", ok(TE, body=b"10000000000000002\r\nok\r\n0\r\n\r\n"), LATE, ends=True)

# -- statuses
for status in (
    "201 Created",
    "404 Not Found",
    "500 Internal Server Error",
    "503 Service Unavailable",
    "599 x",
    "299 x",
):
    add("status", status, ok(CL, status=f"HTTP/1.1 {status}"), f"{status[:3]} ok; kept; reused")
add("status", "no reason", ok(CL, status="HTTP/1.1 200"), KEPT)
add("status", "empty reason", ok(CL, status="HTTP/1.1 200 "), KEPT)
add("status", "8-bit reason", ok(CL, status="HTTP/1.1 200 \xe9"), KEPT)
add("status", "nul in the reason", ok(CL, status="HTTP/1.1 200 O\x00K"), KEPT)
add("status", "HTTP/0.9", ok(CL, status="HTTP/0.9 200 OK"), DROPPED, ends=True)
add("status", "204", ok(status="HTTP/1.1 204 No Content", body=b""), "204; kept; reused")
add("status", "204 with a length of 0", ok("Content-Length: 0", status="HTTP/1.1 204 x", body=b""), "204; kept; reused")
add("status", "204 with a body", ok(CL, status="HTTP/1.1 204 x"), "204; kept; dropped")
add("status", "204 chunked", ok(TE, status="HTTP/1.1 204 x", body=C2), "204; kept; dropped")
add("status", "304", ok(status="HTTP/1.1 304 x", body=b""), "304; kept; reused")
add("status", "304 with a length", ok(CL, status="HTTP/1.1 304 x", body=b""), "304; kept; reused")
add("status", "304 with a body", ok(CL, status="HTTP/1.1 304 x"), "304; kept; dropped")
add("status", "205 with a body", ok(CL, status="HTTP/1.1 205 x"), "205 ok; kept; reused")
for name, line in {
    "two digits": "HTTP/1.1 20 OK",
    "four digits": "HTTP/1.1 2000 OK",
    "no number": "HTTP/1.1 abc OK",
    "minus": "HTTP/1.1 -200 OK",
    "099": "HTTP/1.1 099 x",
    "none": "HTTP/1.1",
    "HTTP/2": "HTTP/2 200 OK",
    "HTTP/1.2": "HTTP/1.2 200 OK",
    "small http": "http/1.1 200 OK",
    "no HTTP": "200 OK",
    "ICY": "ICY 200 OK",
    "space before": " HTTP/1.1 200 OK",
}.items():
    add("status", name, ok(CL, status=line), BAD, ends=True)
add("status", "empty line before", b"\r\n" + OK, KEPT)
add("status", "nothing at all", b"", BAD, ends=True)
add("status", "half a line", b"HTTP/1.1 2", BAD, ends=True)
add("status", "half a head", b"HTTP/1.1 200 OK\r\nContent-Le", BAD, ends=True)
add("status", "nothing, kept open", b"", "504; closed; dropped")
add("status", "half a head, kept open", b"HTTP/1.1 200 OK\r\nConte", "504; closed; dropped")
add("status", "not HTTP", b"\x00\xff\xfe not http\r\n\r\n", BAD, ends=True)
add("status", "a request", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", BAD, ends=True)
add("status", "HTML without a head", b"<html></html>\r\n\r\n", BAD, ends=True)

# -- interim
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
add("interim", "100", CONTINUE + OK, KEPT)
add("interim", "100 twice", CONTINUE * 2 + OK, KEPT)
add("interim", "100 with headers", ok("X-A: 1", status="HTTP/1.1 100 x", body=b"") + OK, KEPT)
add("interim", "102", ok(status="HTTP/1.1 102 Processing", body=b"") + OK, KEPT)
add("interim", "103", ok("Link: </a>", status="HTTP/1.1 103 Early Hints", body=b"") + OK, KEPT)
add("interim", "100 to POST", CONTINUE + OK, KEPT, method="POST")
add("interim", "100 and a 204", CONTINUE + ok(status="HTTP/1.1 204 x", body=b""), "204; kept; reused")
add("interim", "100 and the end", CONTINUE, BAD, ends=True)
add("interim", "100 with a length", ok(CL, status="HTTP/1.1 100 x", body=b"") + OK, KEPT)
add("interim", "199 with a body", ok(CL, status="HTTP/1.1 199 x") + OK, BAD, ends=True)
add("interim", "100 to HTTP/1.0", CONTINUE + OK, "200 ok; closed; reused", version="1.0")
add("interim", "101", ok("Upgrade: x", "Connection: upgrade", status="HTTP/1.1 101 x", body=b"raw"), BAD, ends=True)
add("interim", "101 without headers", ok(status="HTTP/1.1 101 x", body=b"raw"), BAD, ends=True)
add("interim", "100 without an end", CONTINUE * 4000, BAD, ends=True)

# -- HEAD
add("head", "with a length", ok(CL, body=b""), "200; kept; dropped", method="HEAD")
add("head", "chunked", ok(TE, body=b""), "200; kept; dropped", method="HEAD")
add("head", "with a body", OK, "200; kept; dropped", method="HEAD")
add("head", "with an answer behind", ok(CL, body=b"") + EVIL, "200; kept; dropped", method="HEAD")
add("head", "404", ok(CL, status="HTTP/1.1 404 x", body=b""), "404; kept; dropped", method="HEAD")
add("head", "length and coding", ok(CL, TE, body=b""), BAD, method="HEAD", ends=True)
add("head", "two lengths", ok(CL, "Content-Length: 3", body=b""), BAD, method="HEAD", ends=True)

# -- what comes behind
add("behind", "another answer", OK + EVIL, DROPPED)
add("behind", "garbage", OK + b"EVIL", DROPPED)
add("behind", "CRLF", OK + b"\r\n", f"{KEPT} or {DROPPED}")
add("behind", "a nul", OK + b"\x00", DROPPED)
add("behind", "another answer behind chunks", ok(TE, body=C2) + EVIL, DROPPED)
add("behind", "another answer behind a 204", ok(status="HTTP/1.1 204 x", body=b"") + EVIL, "204; kept; dropped")
add("behind", "half an answer", OK + EVIL[:20], DROPPED)
add("behind", "an interim answer", OK + CONTINUE, DROPPED)
add("behind", "the end", OK, DROPPED, ends=True)

# -- connection
add("connection", "close", ok("Connection: close", CL), DROPPED)
add("connection", "close and the end", ok("Connection: close", CL), DROPPED, ends=True)
add("connection", "keep-alive", ok("Connection: keep-alive", CL), KEPT)
add("connection", "names a header", ok("Connection: x-a", "X-A: 1", CL), KEPT)
add("connection", "names the length", ok("Connection: content-length", CL), KEPT)
add("connection", "hop-by-hop", ok("Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "Upgrade: h2c", CL), KEPT)
add("connection", "upgrade offered", ok("Connection: upgrade", "Upgrade: h2c", CL), KEPT)
add("connection", "HTTP/1.0", ok(CL, status="HTTP/1.0 200 OK"), DROPPED, ends=True)
add("connection", "HTTP/1.0 keep-alive", ok("Connection: keep-alive", CL, status="HTTP/1.0 200 OK"), KEPT)
add("connection", "HTTP/1.0 until the end", ok(status="HTTP/1.0 200 OK"), DROPPED, ends=True)

# -- header lines
for name, field in {
    "no space": "X-A:1",
    "empty value": "X-A:",
    "8-bit": "X-A: \xe9",
    "tab": "X-A: 1\t2",
    "twice": "Set-Cookie: a=1\r\nSet-Cookie: b=2",
    "token characters": "!#$%&'*+-.^_`|~09Az: 1",
    "of 8000": "X-A: " + "a" * 8000,
    "content type": "Content-Type: application/json",
    "ours": "X-ModelCanary-A: 1",
}.items():
    add("header", name, ok(field, CL), KEPT)
for name, field in {
    "no colon": "garbage",
    "empty name": ": 1",
    "space in name": "X A: 1",
    "space before colon": "X-A : 1",
    "nul in name": "X\x00A: 1",
    "8-bit in name": "X\xe9A: 1",
    "nul in value": "X-A: 1\x002",
    "control in value": "X-A: 1\x012",
    "DEL in value": "X-A: \x7f",
    "bare CR": "X-A: 1\r2",
    "bare LF": "X-A: 1\nX-B: 2",
    "folded": "X-A: 1\r\n 2",
    "folded with tab": "X-A: 1\r\n\t2",
    "300 lines": "\r\n".join(["X-A: 1"] * 300),
    "300 KB": "X-A: " + "a" * 300_000,
}.items():
    add("header", name, ok(field, CL), BAD, ends=True)
add("header", "LF everywhere", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", BAD, ends=True)
add("header", "LF at the head's end", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok", BAD, ends=True)
add(
    "header",
    "first line begins with a space",
    b"HTTP/1.1 200 OK\r\n X-A: 1\r\nContent-Length: 2\r\n\r\nok",
    BAD,
    ends=True,
)
