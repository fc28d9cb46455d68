"""What a case of the corpus is, and the reasons for which nginx or h11 may do otherwise than the sidecar."""

from dataclasses import dataclass
from enum import StrEnum


class Why(StrEnum):
    """Every difference that is allowed: what they do, and what we do and why. The document has the same table."""

    ABSOLUTE = "go by an absolute target's host, or keep the target whole: it must be Host's, and becomes a path"
    BARE_LF = "take a bare LF for the end of a line: RFC 9112, 2.2 allows it, and who is behind may not; refused"
    CHUNK = "take spaces behind a chunk's size, or bound sizes otherwise: what the grammar has, up to 2^64"
    CHUNK_EXTENSION = "take any bytes in a chunk's extension: what the grammar has, and it is dropped"
    CLOSE = "keep or close a connection otherwise: either is allowed, and said in the answer"
    CODING = "take a coding twice, with a length, with HTTP/1.0 or with odd spaces: it must be one word, alone"
    CONNECT = "open a tunnel: there is none to open to a model; refused"
    EARLY = "wait for the rest of what cannot be a request: refused with its first wrong byte"
    EXPECT = "ignore unknown expectations, or refuse one that is said twice: those that are not met are refused"
    FOLD = "unfold folded lines: RFC 9112, 5.2 allows to refuse them, and readers differ in what they make of them"
    HEADER_NAME = "drop lines whose name is no token: refused, since others behind may take them"
    HEADER_VALUE = "take control characters in values: refused, as readers differ in where the value ends"
    HOST = "take a Host that is none, or send none: refused; HTTP/1.0 without one gets the model's own"
    LENGTH = "take a length twice if it is the same, or bound it otherwise: digits, once, below 2^64"
    LIMIT = "have other limits for heads: 64 KiB and 256 lines"
    METHOD = "take any token for a method, or refuse TRACE: those that are registered are forwarded, no others"
    SPACE = "judge spaces and empty lines around a request line otherwise: RFC 9112, 2.2 and 3 leave it open"
    TARGET = "refuse or repair paths, or take what is none: bytes of a path and a query pass as they are, no fragment"
    TRAILER = "take any lines for trailers: header lines that say nothing of framing, and they are dropped"
    FRAMING = "believe a model's framing that can be read in two ways, or none: 502, before anything is passed on"
    INTERIM = "wait for more behind an interim answer: it is swallowed, and what follows is the answer, or 502"
    REASON = "refuse odd bytes in a reason, or a line before the first: the one is replaced, the other passed over"
    STATUS_LINE = "pass on what is no answer's head, or a switch of protocols: 502"
    UPGRADE = "stop at an upgrade, or take one with HTTP/1.0: it is answered in plain HTTP/1.1; not in HTTP/1.0"
    VERSION = "answer other versions: 1.0 and 1.1 are"


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sends, and what becomes of it."""

    name: str
    wire: bytes
    does: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answers, and what the client gets."""

    name: str
    wire: bytes
    does: str
    ends: bool = False  # the model closes behind it
    method: str = "GET"
    version: str = "1.1"


#: By reason, by case: what nginx or h11 makes of it.
Differences = dict[Why, dict[str, str]]


def by_case(differences: Differences) -> dict[str, str]:
    return {name: does for cases in differences.values() for name, does in cases.items()}
