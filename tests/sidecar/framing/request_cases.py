"""What clients send, and what the sidecar must make of it: requests in bytes, and the outcome as a line of text.

`POST /x hello; kept`: forwarded as one request with that body, and the connection serves on. A status: refused with
it. `closed`: answered, and closed as was asked for. `waits`: more is needed. Where nginx or h11 do otherwise is in
`request_differences`. Long, because it is a table.
"""

from tests.sidecar.framing.cases import Request

CASES: list[Request] = []


def add(group: str, name: str, wire: bytes, does: str) -> None:
    CASES.append(Request(f"{group}: {name}", wire, does))


def post(
    *lines: str | bytes,
    body: bytes = b"",
    target: str = "/x",
    method: str = "POST",
    version: str = "HTTP/1.1",
    host: str | None = "Host: a",
) -> bytes:
    """A request in bytes, with nothing added to what is said but the request line and Host."""
    head = [f"{method} {target} {version}", *([host] if host else []), *lines]
    return (
        b"\r\n".join(line if isinstance(line, bytes) else line.encode("latin-1") for line in head) + b"\r\n\r\n" + body
    )


def escaped(text: bytes) -> str:
    return text.decode("latin-1").encode("unicode_escape").decode()


CL, TE = "Content-Length: 5", "Transfer-Encoding: chunked"
B, C5, C0 = b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n"
GET = post(method="GET")
EVIL = b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"  # what must never be a request where it is within another
OK, E = "POST /x hello; kept", "POST /x; kept"


def chunks(name: str, body: bytes, does: str, group: str = "chunk") -> None:
    add(group, name, post(TE, body=body), does)


def line(name: str, *lines: str | bytes, does: str = OK) -> None:
    add("header", name, post(*lines, CL, body=B), does)


def host(name: str, field: str | None, does: str, *lines: str, version: str = "HTTP/1.1") -> None:
    add("host", name, post(*lines, CL, host=field, version=version, body=B), does)


def target(name: str, text: str, does: str, method: str = "GET") -> None:
    add("target", name, post(target=text, method=method), does)


def version(name: str, text: str, does: str, *lines: str, method: str = "POST") -> None:
    add("version", name, post(*lines, CL, version=text, method=method, body=B), does)


def connection(name: str, does: str, *lines: str) -> None:
    add("connection", name, post(*lines, CL, body=B), does)


# -- length

group = "length"
add(group, "plain", post(CL, body=B), OK)
for n, field in {"absent": [], "zero": ["Content-Length: 0"], "many zeros": ["Content-Length: 000"]}.items():
    add(group, n, post(*field), E)
add(group, "leading zeros", post("Content-Length: 005", body=B), OK)
add(group, "trailing spaces", post("Content-Length: 5  ", body=B), OK)
add(group, "tab before", post("Content-Length:\t5", body=B), OK)
add(group, "no space before", post("Content-Length:5", body=B), OK)
add(group, "tab behind", post("Content-Length: 5\t", body=B), OK)
add(group, "name in capitals", post("CONTENT-LENGTH: 5", body=B), OK)
add(group, "on a GET", post(CL, method="GET", body=B), "GET /x hello; kept")
add(group, "on a DELETE", post(CL, method="DELETE", body=B), "DELETE /x hello; kept")
for n, v in {
    "plus": "+5",
    "minus": "-5",
    "minus zero": "-0",
    "hex": "0x5",
    "hex digits": "a",
    "octal": "0o5",
    "point": "5.0",
    "exponent": "5e0",
    "underscore": "1_0",
    "two with space": "5 6",
    "two with comma": "5, 5",
    "two different with comma": "5, 6",
    "comma at end": "5,",
    "comma before": ",5",
    "semicolon": "5;6",
    "quoted": '"5"',
    "empty": "",
    "text": "five",
    "2^64": "18446744073709551616",
    "2^64+5": "18446744073709551621",
    "forty digits": "1" * 40,
    "vertical tab": "\x0b5",
    "form feed": "5\x0c",
    "nul": "5\x00",
    "8-bit": "µ",
    "nbsp": "\xa05",
    "Arabic digits": "Ù¥",
    "fraction": "5/1",
}.items():
    add(group, n, post(f"Content-Length: {v}", body=B), "400")
add(group, "2^63-1, not all of it", post("Content-Length: 9223372036854775807", body=B), "waits")
add(group, "2^63, not all of it", post("Content-Length: 9223372036854775808", body=B), "waits")
add(group, "twice, the same", post(CL, CL, body=B), "400")
add(group, "twice, different", post(CL, "Content-Length: 6", body=B), "400")
add(group, "twice, second zero", post(CL, "Content-Length: 0", body=B), "400")
add(group, "twice, apart", post(CL, "X-A: 1", "content-length: 5", body=B), "400")
add(group, "body too short", post("Content-Length: 6", body=B), "waits")
add(group, "body too long", post("Content-Length: 4", body=B + b"\r\n\r\n"), "POST /x hell; 400")
add(
    group, "request in the body", post(f"Content-Length: {len(EVIL)}", body=EVIL), "POST /x " + escaped(EVIL) + "; kept"
)
add(group, "none, and a request behind", post() + EVIL, "POST /x; GET /evil; kept")
add(group, "none, and a body", post(body=B), "POST /x; 400")
add(group, "space before colon", post("Content-Length : 5", body=B), "400")
add(group, "tab before colon", post("Content-Length\t: 5", body=B), "400")
add(group, "underscore for hyphen", post("Content_Length: 5", CL, body=B), OK)
add(group, "underscore, alone", post("Content_Length: 5") + GET, "POST /x; GET /x; kept")

# -- coding

group = "coding"
add(group, "chunked", post(TE, body=C5), OK)
add(group, "chunked, empty", post(TE, body=C0), E)
add(group, "capitals", post("Transfer-Encoding: CHUNKED", body=C5), OK)
add(group, "mixed case", post("TrAnSfEr-EnCoDiNg: ChUnKeD", body=C5), OK)
add(group, "spaces around", post("Transfer-Encoding:   chunked  ", body=C5), "501")
add(group, "tab before", post("Transfer-Encoding:\tchunked", body=C5), OK)
add(group, "no space", post("Transfer-Encoding:chunked", body=C5), OK)
add(group, "on a GET", post(TE, method="GET", body=C5), "GET /x hello; kept")
add(group, "and length", post(CL, TE, body=C0), "400")
add(group, "and length, reversed", post(TE, CL, body=C0), "400")
add(group, "and length zero", post("Content-Length: 0", TE, body=C0 + EVIL), "400")
add(group, "and a bad length", post("Content-Length: x", TE, body=C0), "400")
add(group, "other coding and length", post("Transfer-Encoding: gzip", CL, body=B), "refused")
for n, v in {
    "xchunked": "xchunked",
    "chunkedx": "chunkedx",
    "gzip": "gzip",
    "identity": "identity",
    "chunked, identity": "chunked, identity",
    "gzip, chunked": "gzip, chunked",
    "identity, chunked": "identity, chunked",
    "chunked, chunked": "chunked, chunked",
    "chunked, gzip": "chunked, gzip",
    "chunked with parameter": "chunked;q=1",
    "quoted": '"chunked"',
    "comma behind": "chunked,",
    "comma before": ",chunked",
    "empty": "",
    "vertical tab": "\x0bchunked",
    "form feed behind": "chunked\x0c",
    "nul": "chunked\x00",
    "backspace": "\x08chunked",
    "8-bit s": "chunÿked",
    "nbsp": "\xa0chunked",
    "split word": "chun ked",
    "semicolon": ";chunked",
    "CR": "chunked\rx",
    "in brackets": "[chunked]",
    "cow": "cow",
}.items():
    add(group, n, post(f"Transfer-Encoding: {v}", body=C5), "refused")
add(group, "twice", post(TE, TE, body=C5), "refused")
add(group, "twice, second other", post(TE, "Transfer-Encoding: identity", body=C5), "refused")
add(group, "twice, first other", post("Transfer-Encoding: identity", TE, body=C5), "refused")
add(group, "twice, first empty", post("Transfer-Encoding:", TE, body=C5), "refused")
add(group, "space before colon", post("Transfer-Encoding : chunked", body=C0), "400")
add(group, "tab before colon", post("Transfer-Encoding\t: chunked", body=C0), "400")
add(group, "space before name", post("X-A: 1", " Transfer-Encoding: chunked", CL, body=B), "400")
add(group, "folded", post("Transfer-Encoding:", b" chunked", body=C0), "400")
add(group, "folded with tab", post("Transfer-Encoding:", b"\tchunked", body=C0), "400")
add(group, "in a value after a bare CR", post("X-A: 1\rTransfer-Encoding: chunked", CL, body=B), "400")
add(group, "in a value after a bare LF", post("X-A: 1\nTransfer-Encoding: chunked", CL, body=B), "400")
add(group, "name with nul", post("Transfer-Encoding\x00: chunked", CL, body=B), "400")
add(group, "name with 8-bit", post("Transfer-Encodingÿ: chunked", CL, body=B), "400")
add(group, "underscore", post("Transfer_Encoding: chunked", CL, body=B), OK)
add(group, "HTTP/1.0", post(TE, version="HTTP/1.0", body=C5), "400")
add(group, "HTTP/1.0 keep-alive", post(TE, "Connection: keep-alive", version="HTTP/1.0", body=C5), "400")
add(group, "named by Connection", post("Connection: transfer-encoding", TE, body=C5), OK)
add(group, "length named by Connection", post("Connection: content-length", CL, body=B), OK)

# -- chunk

group = "chunk"
chunks("two", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", OK)
chunks("of one byte each", b"".join(b"1\r\n%c\r\n" % c for c in B) + C0, OK)
chunks("leading zeros", b"0005\r\nhello\r\n000\r\n\r\n", OK)
chunks("hex in capitals", b"A\r\nhellohello\r\n0\r\n\r\n", "POST /x hellohello; kept")
chunks("hex in small", b"a\r\nhellohello\r\n0\r\n\r\n", "POST /x hellohello; kept")
chunks("request inside", b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVIL), EVIL), "POST /x " + escaped(EVIL) + "; kept")
chunks("request behind", C5 + EVIL, "POST /x hello; GET /evil; kept")
chunks("extension", b"5;a=b\r\nhello\r\n0\r\n\r\n", OK)
chunks("extension, quoted", b'5;a="b;c"\r\nhello\r\n0\r\n\r\n', OK)
chunks("extension, quoted with CRLF", b'5;a="b\r\nhello\r\n0\r\n\r\n', "400")
chunks("extension without value", b"5;a\r\nhello\r\n0\r\n\r\n", OK)
chunks("extension on the last", b"5\r\nhello\r\n0;a=b\r\n\r\n", OK)
chunks("extension, empty", b"5;\r\nhello\r\n0\r\n\r\n", "400")
chunks("extension with spaces", b"5 ; a = b\r\nhello\r\n0\r\n\r\n", "400")
chunks("extension with nul", b"5;a=\x00\r\nhello\r\n0\r\n\r\n", "400")
chunks("extension with bare LF", b"5;a\nhello\r\n0\r\n\r\n", "400")
chunks("extension with bare CR", b"5;a\rhello\r\n0\r\n\r\n", "400")
chunks("extension with a request", b"5;GET /evil HTTP/1.1\r\nhello\r\n0\r\n\r\n", "400")
chunks("size with 0x", b"0x5\r\nhello\r\n0\r\n\r\n", "400")
chunks("size with plus", b"+5\r\nhello\r\n0\r\n\r\n", "400")
chunks("size with minus", b"-5\r\nhello\r\n0\r\n\r\n", "400")
chunks("size with space behind", b"5 \r\nhello\r\n0\r\n\r\n", "400")
chunks("size with space before", b" 5\r\nhello\r\n0\r\n\r\n", "400")
chunks("size with tab behind", b"5\t\r\nhello\r\n0\r\n\r\n", "400")
chunks("size with underscore", b"1_0\r\nhello\r\n0\r\n\r\n", "400")
chunks("size with comma", b"5,5\r\nhello\r\n0\r\n\r\n", "400")
chunks("size with a letter behind", b"5g\r\nhello\r\n0\r\n\r\n", "400")
chunks("size with nul", b"5\x00\r\nhello\r\n0\r\n\r\n", "400")
chunks("no size", b"\r\nhello\r\n0\r\n\r\n", "400")
chunks("size of 2^64+5", b"10000000000000005\r\nhello\r\n0\r\n\r\n", "400")
chunks("size of 17 f", b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n", "400")
chunks("size of 2^64-1", b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n", "waits")
chunks("size of 2^63", b"8000000000000000\r\nhello\r\n0\r\n\r\n", "waits")
chunks("twenty zeros before the size", b"0" * 20 + b"5\r\nhello\r\n0\r\n\r\n", OK)
chunks("LF behind the size", b"5\nhello\r\n0\r\n\r\n", "400")
chunks("LF behind the data", b"5\r\nhello\n0\r\n\r\n", "400")
chunks("LF at the end", b"5\r\nhello\r\n0\n\n", "400")
chunks("LF behind the last size", b"5\r\nhello\r\n0\n\r\n", "400")
chunks("LF for the last line", b"5\r\nhello\r\n0\r\n\n", "400")
chunks("CR behind the size", b"5\rhello\r\n0\r\n\r\n", "400")
chunks("CR CR LF behind the size", b"5\r\r\nhello\r\n0\r\n\r\n", "400")
chunks("data longer than its size", b"4\r\nhello\r\n0\r\n\r\n", "400")
chunks("data shorter than its size", b"6\r\nhello\r\n0\r\n\r\n", "400")
chunks("no CRLF behind data", b"5\r\nhelloXX0\r\n\r\n", "400")
chunks("no last one", b"5\r\nhello\r\n", "waits")
chunks("last line missing", b"5\r\nhello\r\n0\r\n", "waits")
chunks("nothing", b"", "waits")

# -- trailer

group = "trailer"
chunks("one", b"5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n", OK, group)
chunks("length", b"5\r\nhello\r\n0\r\nContent-Length: 99\r\n\r\n", "400", group)
chunks("coding", b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", "400", group)
chunks("Host", b"5\r\nhello\r\n0\r\nHost: b\r\n\r\n", OK, group)
chunks(
    "Connection: close", b"5\r\nhello\r\n0\r\nConnection: close\r\n\r\n" + EVIL, "POST /x hello; GET /evil; kept", group
)
chunks(
    "Upgrade",
    b"5\r\nhello\r\n0\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + EVIL,
    "POST /x hello; GET /evil; kept",
    group,
)
chunks("folded", b"5\r\nhello\r\n0\r\nX-T: 1\r\n 2\r\n\r\n", "400", group)
chunks("bare LF", b"5\r\nhello\r\n0\r\nX-T: 1\n\r\n", "400", group)
chunks("no colon", b"5\r\nhello\r\n0\r\ngarbage\r\n\r\n", "400", group)
chunks("nul", b"5\r\nhello\r\n0\r\nX-T: \x00\r\n\r\n", "400", group)
chunks("a request line", b"5\r\nhello\r\n0\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n", "400", group)
chunks("space before colon", b"5\r\nhello\r\n0\r\nX-T : 1\r\n\r\n", "400", group)
chunks("without an end", b"5\r\nhello\r\n0\r\nX-T: 1\r\n", "waits", group)
add(group, "announced", post(TE, "Trailer: X-T", body=b"5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"), OK)

# -- header

group = "header"
line("no space", "X-A:1")
line("many spaces", "X-A:    1   ")
line("tabs", "X-A:\t1\t")
line("empty value", "X-A:")
line("spaces only", "X-A:    ")
line("8-bit value", "X-A: cafÃ©")
line("invalid UTF-8", "X-A: ÿþ")
line("tab inside", "X-A: 1\t2")
line("colon in value", "X-A: b:c")
line("two colons", "X-A:: 1")
line("quotes", 'X-A: "1\\"2"')
line("twice", "X-A: 1", "X-A: 2")
line("token characters", "!#$%&'*+-.^_`|~09Az: 1")
line("numeric name", "1: 1")
line("underscore", "X_A: 1")
line("dot", "X.A: 1")
line("name of 1000", "X" * 1000 + ": 1")
line("value of 8000", "X-A: " + "a" * 8000)
line("100 lines", *[f"X-{n}: 1" for n in range(100)])
for n, field in {
    "empty name": ": 1",
    "no colon": "garbage",
    "nothing but a colon": ":",
    "space in name": "X A: 1",
    "space before colon": "X-A : 1",
    "tab in name": "X\tA: 1",
    "slash in name": "X/A: 1",
    "bracket in name": "X(A: 1",
    "quote in name": 'X"A: 1',
    "comma in name": "X,A: 1",
    "semicolon in name": "X;A: 1",
    "at in name": "X@A: 1",
    "equals in name": "X=A: 1",
    "bracket [ in name": "X[A: 1",
    "brace in name": "X{A: 1",
    "nul in name": "X\x00A: 1",
    "control in name": "X\x01A: 1",
    "DEL in name": "X\x7fA: 1",
    "8-bit in name": "XéA: 1",
    "nul in value": "X-A: 1\x002",
    "control in value": "X-A: 1\x012",
    "ESC in value": "X-A: \x1b[0m",
    "DEL in value": "X-A: 1\x7f2",
    "backspace in value": "X-A: 1\x082",
    "vertical tab in value": "X-A: 1\x0b2",
    "bare CR in value": "X-A: 1\r2",
    "bare CR at the end": "X-A: 1\r",
    "bare LF in value": "X-A: 1\nX-B: 2",
    "bare LF, then a request": "X-A: 1\n\nGET /evil HTTP/1.1\nHost: a\n\n",
    "request line as header": "GET /evil HTTP/1.1",
}.items():
    line(n, field, does="400")
line("folded", "X-A: 1", b" 2", does="400")
line("folded with tab", "X-A: 1", b"\t2", does="400")
line("folded into nothing", "X-A:", b"  ", does="400")
add(group, "first line begins with space", b"POST /x HTTP/1.1\r\n Host: a\r\nContent-Length: 5\r\n\r\nhello", "400")
add(group, "first line begins with tab", b"POST /x HTTP/1.1\r\n\tHost: a\r\nContent-Length: 5\r\n\r\nhello", "400")
add(group, "bare LF everywhere", b"POST /x HTTP/1.1\nHost: a\nContent-Length: 5\n\nhello", "400")
add(group, "bare LF behind the request line", b"POST /x HTTP/1.1\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "400")
add(group, "bare LF at the head's end", b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\nhello", "400")
add(group, "LF CR at the head's end", b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\n\r\nhello", "400")
add(group, "bare CR at the head's end", b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\rhello", "400")
add(group, "CR CR LF", b"POST /x HTTP/1.1\r\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "400")
line("300 lines", *[f"X-{n}: 1" for n in range(300)], does="431")
line("70 KB in one", "X-A: " + "a" * 70000, does="431")
line("70 KB of name", "X" * 70000 + ": 1", does="431")
add(group, "a head without an end", b"POST /x HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n", "waits")

# -- host

group = "host"
host("with port", "Host: a:80", OK)
host("capitals", "HOST: A", OK)
host("IPv6", "Host: [::1]:80", OK)
host("name with dots", "Host: a.b.svc.cluster.local", OK)
host("underscore", "Host: a_b", OK)
host("absent", None, "400")
host("empty", "Host:", "400")
host("spaces only", "Host:   ", "400")
host("twice", "Host: a", "400", "Host: b")
host("twice, the same", "Host: a", "400", "Host: a")
host("twice, other case", "Host: a", "400", "hOsT: a")
host("space before colon", "Host : a", "400")
for n, v in {
    "with a space": "a b",
    "with a comma": "a, b",
    "with user": "u@a",
    "with path": "a/b",
    "with query": "a?b",
    "with fragment": "a#b",
    "with backslash": "a\\b",
    "with scheme": "http://a",
    "8-bit": "é",
    "nul": "a\x00b",
    "with tab inside": "a\tb",
    "port no number": "a:b",
    "two ports": "a:1:2",
    "bracket": "[a",
    "quote": 'a"b',
    "less than": "a<b",
}.items():
    host(n, f"Host: {v}", "400")
host("absent in HTTP/1.0", None, "POST /x hello; closed", version="HTTP/1.0")
host("twice in HTTP/1.0", "Host: a", "400", "Host: b", version="HTTP/1.0")
host("named by Connection", "Host: a", OK, "Connection: host")

# -- target

group = "target"
for t in [
    "/",
    "//x",
    "/x//y",
    "/x?",
    "/x?a=b&c=d",
    "/x/../y",
    "/x/./y",
    "/%2e%2e/",
    "/x%00y",
    "/x%0d%0aX-A:%201",
    "/x%",
    "/x%zz",
    "/x;a=b",
    "/x,y",
    "/x:y@z",
    "/x!$&'()*+=~",
    "/x?y?z",
    "/x?y/z",
    "/x?http://b/",
    "/:80",
    "/x[1]",
    "/x|y",
    "/x^y",
    "/x`y",
    "/x{y}",
    '/x"y',
    "/x<y>",
    "/x\\y",
    "/x?a=<b>",
]:
    target("path " + t.encode("unicode_escape").decode(), t, f"GET {t.encode('unicode_escape').decode()}; kept")
target("8-bit", "/xé", "400")
target("8-bit in a query", "/x?Ã©", "400")
target("of 8000", "/" + "x" * 8000, "GET /" + "x" * 8000 + "; kept")
target("of 70 KB", "/" + "x" * 70000, "431")
target("fragment", "/x#y", "400")
target("fragment in query", "/x?a#y", "400")
target("relative", "x", "400")
target("query only", "?x", "400")
target("empty", "", "400")
target("dot", "./x", "400")
target("space inside", "/x y", "400")
target("tab inside", "/x\ty", "400")
target("nul inside", "/x\x00y", "400")
target("control inside", "/x\x01y", "400")
target("DEL inside", "/x\x7fy", "400")
target("CR inside", "/x\ry", "400")
target("LF inside", "/x\ny", "400")
target("vertical tab inside", "/x\x0by", "400")
target("form feed inside", "/x\x0cy", "400")
target("asterisk of OPTIONS", "*", "OPTIONS *; kept", method="OPTIONS")
target("asterisk of GET", "*", "400")
target("asterisk and more", "*/x", "400", method="OPTIONS")
target("absolute, same host", "http://a/x", "GET /x; kept")
target("absolute, capitals", "HTTP://A/x", "GET /x; kept")
target("absolute, no path", "http://a", "GET /; kept")
target("absolute, path with query", "http://a/x?y=http://b/", "GET /x?y=http://b/; kept")
target("absolute, query without path", "http://a?x", "400")
for n, t in {
    "absolute, other host": "http://b/x",
    "absolute, port added": "http://a:80/x",
    "absolute, user": "http://u@a/x",
    "absolute, user of our name": "http://a@b/x",
    "absolute, https": "https://a/x",
    "absolute, other scheme": "ftp://a/x",
    "absolute, no host": "http:///x",
    "absolute, fragment": "http://a/x#y",
    "absolute, one slash": "http:/a/x",
    "absolute, backslash": "http://a\\b/x",
    "scheme only": "http:",
    "authority": "a:80",
}.items():
    target(n, t, "400")
add(group, "absolute, two Hosts", post("Host: b", target="http://a/x", method="GET"), "400")
add(group, "absolute, no Host", post(target="http://a/x", method="GET", host=None), "400")

# -- method

group = "method"
for m in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "REPORT", "QUERY", "LINK"]:
    add(group, m, post(method=m), f"{m} /x; kept")
for n, m in {
    "lower case": "post",
    "mixed case": "Post",
    "unknown": "FOO",
    "with a prefix": "XPOST",
    "with a suffix": "POSTX",
    "empty": "",
    "with 8-bit": "PÖST",
    "with nul": "PO\x00ST",
    "with tab": "GET\t",
    "with bracket": "GET(",
    "with slash": "G/T",
    "with colon": "GET:",
    "number": "123",
    "GET cut": "GE",
}.items():
    add(group, n, post(method=m), "400")
add(group, "CONNECT", b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", "400")
add(group, "CONNECT to a path", post(method="CONNECT"), "400")
add(group, "CONNECT with a body", b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "400")
add(group, "CONNECT in HTTP/1.0", b"CONNECT a:443 HTTP/1.0\r\nHost: a\r\n\r\n", "400")
add(group, "of 70 KB", post(method="G" * 70000), "400")

# -- version

group = "version"
version("1.0", "HTTP/1.0", "POST /x hello; closed")
version("1.0 keep-alive", "HTTP/1.0", OK, "Connection: keep-alive")
version("1.0 Keep-Alive", "HTTP/1.0", OK, "Connection: Keep-Alive")
version("1.0 close", "HTTP/1.0", "POST /x hello; closed", "Connection: close")
version("1.0 both", "HTTP/1.0", OK, "Connection: keep-alive, close")
for v in [
    "HTTP/0.9",
    "HTTP/1.2",
    "HTTP/1.9",
    "HTTP/2.0",
    "HTTP/3.0",
    "HTTP/2",
    "HTTP/1",
    "HTTP/1.",
    "HTTP/.1",
    "HTTP/11",
    "HTTP/1.10",
    "HTTP/01.1",
    "HTTP/1.01",
    "HTTP/+1.1",
    "HTTP/1,1",
    "http/1.1",
    "Http/1.1",
    "HTTPS/1.1",
    "HTTP 1.1",
    "HTTP/1.1x",
    "HTTP/ 1.1",
    "HTTP /1.1",
    "HTTP\\1.1",
    "XTTP/1.1",
    "ICE/1.0",
    "SIP/2.0",
    "HTTP/¹.1",
    "\x00HTTP/1.1",
]:
    version(v.encode("unicode_escape").decode(), v, "refused")
version("GET in RTSP/1.0", "RTSP/1.0", "400", method="GET")
version("SOURCE in ICE/1.0", "ICE/1.0", "400", method="SOURCE")
version("POST in RTSP/1.0", "RTSP/1.0", "400")
version("none", "", "refused")
add(group, "0.9", b"GET /x\r\n", "505")
add(group, "0.9 with headers", b"GET /x\r\nHost: a\r\n\r\n", "505")
version("space behind", "HTTP/1.1 ", "refused")
version("tab behind", "HTTP/1.1\t", "refused")
version("more behind", "HTTP/1.1 x", "refused")
add(group, "two spaces before the target", b"GET  /x HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x; kept")
add(group, "two spaces before the version", b"GET /x  HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x; kept")
add(group, "tab before the target", b"GET\t/x HTTP/1.1\r\nHost: a\r\n\r\n", "400")
add(group, "tab before the version", b"GET /x\tHTTP/1.1\r\nHost: a\r\n\r\n", "400")
add(group, "no spaces", b"GET/xHTTP/1.1\r\nHost: a\r\n\r\n", "400")
add(group, "space before the method", b" GET /x HTTP/1.1\r\nHost: a\r\n\r\n", "400")
add(group, "empty line before", b"\r\n" + GET, "GET /x; kept")
add(group, "two empty lines before", b"\r\n\r\n" + GET, "GET /x; kept")
add(group, "LF before", b"\n" + GET, "GET /x; kept")
add(group, "CR before", b"\r" + GET, "GET /x; kept")
add(group, "nul before", b"\x00" + GET, "400")
add(group, "BOM before", b"\xef\xbb\xbf" + GET, "400")
add(group, "an answer", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "400")
add(group, "TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40, "400")
add(group, "PROXY protocol", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n" + GET, "400")
add(group, "SSH", b"SSH-2.0-x\r\n", "400")
add(group, "SMTP", b"EHLO a\r\n", "400")
add(group, "almost HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n", "refused")
add(group, "nothing but CRLF", b"\r\n", "waits")

# -- connection

group = "connection"
connection("close", "POST /x hello; closed", "Connection: close")
connection("Close", "POST /x hello; closed", "Connection: Close")
connection("keep-alive", OK, "Connection: keep-alive")
connection("keep-alive, close", "POST /x hello; closed", "Connection: keep-alive, close")
connection("close twice", "POST /x hello; closed", "Connection: close", "Connection: close")
connection("close, in a second line", "POST /x hello; closed", "Connection: x", "Connection: close")
connection("empty", OK, "Connection:")
connection("commas", OK, "Connection: ,,keep-alive,,")
connection("names a header", OK, "Connection: x-a", "X-A: 1")
connection("names a header that is not there", OK, "Connection: x-b", "X-A: 1")
connection("names several", OK, "Connection: X-A , x-b,x-c", "X-A: 1", "X-B: 2", "X-C: 3", "X-D: 4")
connection("names in two lines", OK, "Connection: x-a", "Connection: x-b", "X-A: 1", "X-B: 2")
connection("names itself", OK, "Connection: connection")
connection("names the id", OK, "Connection: x-request-id", "X-Request-Id: i")
connection("names Authorization", OK, "Connection: authorization", "Authorization: x")
connection("names Content-Type", OK, "Connection: content-type", "Content-Type: a/b")
connection("word within a word", OK, "Connection: xclose")
connection("no token", OK, "Connection: @#!")
connection("Keep-Alive", OK, "Keep-Alive: timeout=5")
connection("Proxy-Connection", "POST /x hello; closed", "Proxy-Connection: close")
connection("TE", OK, "TE: trailers", "Connection: TE")
connection("Proxy-Authorization", OK, "Proxy-Authorization: x")
connection("ours", OK, "X-ModelCanary-Shadow: 1", "x-modelcanary-id: 2")
connection("almost ours", OK, "X-ModelCanar: 1")
add(group, "close, and a request behind", post("Connection: close", CL, body=B) + EVIL, "POST /x hello; closed")
add(group, "1.0, and a request behind", post(CL, version="HTTP/1.0", body=B) + EVIL, "POST /x hello; closed")

# -- upgrade

group = "upgrade"
UP = ["Connection: Upgrade", "Upgrade: websocket"]
add(group, "of a GET", post(*UP, method="GET"), "GET /x; kept")
add(group, "with a body", post(*UP, CL, body=B), OK)
add(
    group,
    "with a request for a body",
    post(*UP, f"Content-Length: {len(EVIL)}", body=EVIL),
    "POST /x " + escaped(EVIL) + "; kept",
)
add(group, "with chunks", post(*UP, TE, body=C5), OK)
add(group, "with chunks and a request behind", post(*UP, TE, body=C5) + EVIL, "POST /x hello; GET /evil; kept")
add(
    group,
    "h2c",
    post("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", CL, body=B),
    OK,
)
add(group, "without Connection", post("Upgrade: websocket", CL, body=B), OK)
add(group, "Connection alone", post("Connection: upgrade", CL, body=B), OK)
add(group, "and close", post("Connection: upgrade, close", "Upgrade: x", CL, body=B), "POST /x hello; closed")
add(group, "names a header too", post("Connection: upgrade, x-a", "Upgrade: x", "X-A: 1", CL, body=B), OK)
add(group, "twice in a row", post(*UP, CL, body=B) * 2, "POST /x hello; POST /x hello; kept")
add(group, "with both framings", post(*UP, CL, TE, body=C0), "400")
add(group, "with two lengths", post(*UP, CL, CL, body=B), "400")
add(group, "with another coding", post(*UP, "Transfer-Encoding: gzip, chunked", body=C5), "refused")
add(group, "without Host", post(*UP, CL, host=None, body=B), "400")
add(group, "with two Hosts", post("Host: b", *UP, CL, body=B), "400")
add(group, "in HTTP/1.0", post(*UP, CL, version="HTTP/1.0", body=B), "400")
add(group, "with Expect", post(*UP, "Expect: 100-continue", CL, body=B), OK)
add(group, "and websocket frames behind", post(*UP, method="GET") + b"\x81\x05hello", "GET /x; 400")
add(group, "absolute target", post(*UP, target="http://a/x", method="GET"), "GET /x; kept")

# -- expect

group = "expect"
add(group, "continue", post("Expect: 100-continue", CL, body=B), OK)
add(group, "continue in capitals", post("Expect: 100-CONTINUE", CL, body=B), OK)
add(group, "continue with chunks", post("Expect: 100-continue", TE, body=C5), OK)
add(group, "continue without a body", post("Expect: 100-continue"), E)
add(
    group, "continue in HTTP/1.0", post("Expect: 100-continue", CL, version="HTTP/1.0", body=B), "POST /x hello; closed"
)
add(group, "unknown", post("Expect: 200-ok", CL, body=B), "400")
add(group, "empty", post("Expect:", CL, body=B), "400")
add(group, "twice", post("Expect: 100-continue", "Expect: 100-continue", CL, body=B), OK)
add(group, "list", post("Expect: 100-continue, x", CL, body=B), "400")

# -- pipeline

group = "pipeline"
add(group, "two", GET * 2, "GET /x; GET /x; kept")
add(group, "four with bodies", post(CL, body=B) * 4, "; ".join(["POST /x hello"] * 4) + "; kept")
add(group, "twenty", GET * 20, "; ".join(["GET /x"] * 20) + "; kept")
add(
    group,
    "all framings",
    GET + post(CL, body=B) + post(TE, body=C5) + post(method="HEAD") + GET,
    "GET /x; POST /x hello; POST /x hello; HEAD /x; GET /x; kept",
)
add(group, "close in the middle", GET + post("Connection: close", method="GET") + EVIL, "GET /x; GET /x; closed")
add(group, "garbage behind", GET + b"garbage\r\n\r\n", "GET /x; 400")
add(group, "a refusal behind", GET + post(CL, TE, body=C0) + EVIL, "GET /x; 400")
add(group, "a bad chunk behind", GET + post(TE, body=b"x\r\n") + EVIL, "GET /x; 400")
add(group, "half a request behind", GET + b"GET /x HT", "GET /x; waits")
add(group, "half a body behind", GET + post(CL, body=b"he"), "GET /x; waits")
add(group, "empty lines between", GET + b"\r\n\r\n" + GET, "GET /x; GET /x; kept")
add(group, "empty line behind a body", post(CL, body=B + b"\r\n") + GET, "POST /x hello; GET /x; kept")
add(group, "HTTP/1.1, then 1.0", GET + post(method="GET", version="HTTP/1.0"), "GET /x; GET /x; closed")
add(
    group,
    "1.0 kept, then 1.1",
    post("Connection: keep-alive", method="GET", version="HTTP/1.0") + GET,
    "GET /x; GET /x; kept",
)
add(group, "upgrade behind", GET + post(*UP, CL, body=B), "GET /x; POST /x hello; kept")
add(group, "HEAD twice", post(method="HEAD") * 2, "HEAD /x; HEAD /x; kept")
add(group, "CONNECT behind", GET + b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n" + EVIL, "GET /x; 400")
