"""Answers as real servers send them, byte for byte, and what is read from each."""

import gzip
import math
import struct
import zlib
from dataclasses import dataclass, field, replace

import pytest

from modelcanary_gate.protocol import ModelReading
from modelcanary_gate.vocabulary import Outcome, Role
from modelcanary_sidecar.decoding import Cause, Reader, Unread

ABC = ModelReading(classes=["a", "b", "c"])
YES_NO = ModelReading(classes=["no", "yes"], task="binary")
CAP = 4096


def read(
    body: bytes,
    reading: ModelReading = ABC,
    *,
    role: Role = Role.BASELINE,
    status: int = 200,
    encoding: bytes = b"",
) -> list[bytes | Unread] | Unread:
    headers = b"content-encoding: %b\r\n" % encoding if encoding else b""
    return Reader(reading, role, CAP).read(status, headers, body)


def probabilities(row: bytes | Unread) -> list[float]:
    assert isinstance(row, bytes), row
    return [math.exp(log) for (log,) in struct.iter_unpack("<f", row)]


@dataclass
class Good:
    name: str
    body: bytes
    expected: list[list[float]]
    reading: ModelReading = field(default=ABC)


GOOD = [
    Good(
        "V1 from KServe",
        b'{"predictions":[[0.5,0.25,0.25],[0.125,0.125,0.75]]}',
        [[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]],
    ),
    Good("V1 with another axis", b'{"predictions":[[[0.5,0.25,0.25]]]}', [[0.5, 0.25, 0.25]]),
    Good(
        "V2 from MLServer",
        b'{"model_name":"digits","model_version":"v1","id":"req-42","parameters":{},"outputs":[{"name":'
        b'"predict_proba","shape":[2,3],"datatype":"FP64","parameters":{"content_type":"np"},'
        b'"data":[0.5,0.25,0.25,0.125,0.125,0.75]}]}',
        [[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]],
    ),
    Good(
        "V2 with nested data",
        b'{"outputs":[{"name":"output-0","shape":[2,3],"datatype":"FP32",'
        b'"data":[[0.5,0.25,0.25],[0.125,0.125,0.75]]}]}',
        [[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]],
    ),
    Good(
        "V2: whole numbers declared as floats are probabilities",
        b'{"outputs":[{"name":"p","shape":[1,3],"datatype":"FP32","data":[0,1,0]}]}',
        [[0, 1, 0]],
    ),
    Good(
        "V2: labels beside probabilities",
        b'{"outputs":[{"name":"predict","shape":[1,1],"datatype":"INT64","data":[7]},'
        b'{"name":"score","shape":[1,1],"datatype":"FP32","data":[0.7]},'
        b'{"name":"predict_proba","shape":[1,3],"datatype":"FP64","data":[0.5,0.25,0.25]}]}',
        [[0.5, 0.25, 0.25]],
    ),
    Good(
        "V2: the output that is named",
        b'{"outputs":[{"name":"first","shape":[1,3],"datatype":"FP32","data":[0.2,0.2,0.6]},'
        b'{"name":"second","shape":[1,3],"datatype":"FP32","data":[0.5,0.25,0.25]}]}',
        [[0.5, 0.25, 0.25]],
        replace(ABC, output="second"),
    ),
    Good(
        "V2 without a batch axis",
        b'{"outputs":[{"name":"p","shape":[3],"datatype":"FP32","data":[0.5,0.25,0.25]}]}',
        [[0.5, 0.25, 0.25]],
    ),
    Good(
        "Seldon's ndarray with its names in an order of its own",
        b'{"data":{"names":["c","a","b"],"ndarray":[[0.5,0.125,0.375]]},"meta":{"puid":"p"}}',
        [[0.125, 0.375, 0.5]],
    ),
    Good(
        "Seldon's tensor, names that say nothing",
        b'{"data":{"names":["t:0","t:1","t:2"],"tensor":{"shape":[1,3],"values":[0.5,0.125,0.375]}},"meta":{}}',
        [[0.5, 0.125, 0.375]],
    ),
    Good(
        "MLflow: mappings by class",
        b'{"predictions":[{"c":0.5,"a":0.125,"b":0.375},{"a":0.25,"b":0.25,"c":0.5}]}',
        [[0.125, 0.375, 0.5], [0.25, 0.25, 0.5]],
    ),
    Good(
        "V1: mappings by output",
        b'{"predictions":[{"label":"a","probabilities":[0.5,0.25,0.25]}]}',
        [[0.5, 0.25, 0.25]],
        replace(ABC, output="probabilities"),
    ),
    Good(
        "custom, by JSON Pointer",
        b'{"result":{"a/b":[{"~":[[0.5,0.25,0.25]]}]}}',
        [[0.5, 0.25, 0.25]],
        replace(ABC, protocol="custom", pointer="/result/a~1b/0/~0"),
    ),
    Good(
        "custom: one instance without an axis",
        b'{"scores":[0.5,0.25,0.25]}',
        [[0.5, 0.25, 0.25]],
        replace(ABC, protocol="custom", pointer="/scores"),
    ),
    Good(
        "custom: the whole answer, by class",
        b'{"c":0.5,"a":0.125,"b":0.375}',
        [[0.125, 0.375, 0.5]],
        replace(ABC, protocol="custom", pointer=""),
    ),
    Good(
        "a bare list, from BentoML", b"[[0.5,0.25,0.25],[0.125,0.125,0.75]]", [[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]]
    ),
    Good("a bare list of mappings", b'[{"b":0.25,"a":0.5,"c":0.25}]', [[0.5, 0.25, 0.25]]),
    Good(
        "MLflow: a mapping of columns by class",
        b'{"predictions":{"c":[0.25,0.75],"a":[0.5,0.125],"b":[0.25,0.125]}}',
        [[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]],
    ),
    Good(
        "MLflow: a mapping of outputs",
        b'{"predictions":{"label":["a","c"],"proba":[[0.5,0.25,0.25],[0.125,0.125,0.75]]}}',
        [[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]],
        replace(ABC, output="proba"),
    ),
    Good(
        "custom, by JMESPath",
        b'{"results":[{"scores":{"a":0.5,"b":0.25,"c":0.25},"ok":true},{"scores":{"c":0.75,"b":0.125,"a":0.125}}]}',
        [[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]],
        replace(ABC, protocol="custom", pointer="jmespath:results[*].scores"),
    ),
    Good(
        "custom, by JMESPath: sorted by a name of its own",
        b'{"p":[{"n":"c","v":0.25},{"n":"a","v":0.5},{"n":"b","v":0.25}]}',
        [[0.5, 0.25, 0.25]],
        replace(ABC, protocol="custom", pointer="jmespath:sort_by(p, &n)[*].v"),
    ),
    Good(
        "binaryScore: one number per instance",
        b'{"predictions":[0.75,0.5]}',
        [[0.25, 0.75], [0.5, 0.5]],
        replace(YES_NO, values="binaryScore"),
    ),
    Good(
        "binaryScore: V2 without an axis of its own",
        b'{"outputs":[{"name":"p","shape":[2],"datatype":"FP32","data":[0.75,1.0]}]}',
        [[0.25, 0.75], [0, 1]],
        replace(YES_NO, values="binaryScore"),
    ),
    Good(
        "binaryScore: the class is named",
        b'{"data":{"names":["no"],"ndarray":[[0.75]]}}',
        [[0.75, 0.25]],
        replace(YES_NO, values="binaryScore"),
    ),
    Good(
        "custom binaryScore: one number",
        b'{"p":0.75}',
        [[0.25, 0.75]],
        replace(YES_NO, values="binaryScore", protocol="custom", pointer="/p"),
    ),
    Good(
        "logits, whole numbers among them",
        b'{"predictions":[[0,0,0]]}',
        [[1 / 3, 1 / 3, 1 / 3]],
        replace(ABC, values="logits"),
    ),
    Good(
        "one logit of a binary task",
        b'{"predictions":[0.0]}',
        [[0.5, 0.5]],
        replace(YES_NO, values="logits"),
    ),
    Good(
        "log-probabilities with a bare -Infinity",
        b'{"predictions":[[-0.6931471805599453,-0.6931471805599453,-Infinity]]}',
        [[0.5, 0.5, 0]],
        replace(ABC, values="logProbabilities"),
    ),
    Good(
        "multilabel: columns need no sum of 1",
        b'{"predictions":[[0.9,0.8,0.0]]}',
        [[0.9, 0.8, 0]],
        replace(ABC, task="multilabel"),
    ),
    Good("rounded to four decimals", b'{"predictions":[[0.3333,0.3333,0.3333]]}', [[1 / 3, 1 / 3, 1 / 3]]),
    Good("probabilities of exactly 0", b'{"predictions":[[1.0,0.0,0.0]]}', [[1, 0, 0]]),
]


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_reads(case: Good) -> None:
    rows = read(case.body, case.reading)
    assert isinstance(rows, list), rows
    assert [probabilities(row) for row in rows] == [pytest.approx(row, abs=1e-6) for row in case.expected]


@dataclass
class Bad:
    name: str
    body: bytes
    outcome: Outcome
    cause: Cause
    says: str = ""
    reading: ModelReading = field(default=ABC)
    status: int = 200
    encoding: bytes = b""


BAD = [
    Bad("error status", b'{"error":"no"}', Outcome.ERROR_STATUS, Cause.STATUS, "500", status=500),
    Bad("empty", b"", Outcome.UNDECODABLE, Cause.NOT_JSON, "empty"),
    Bad("HTML", b"\n<!DOCTYPE html><html>", Outcome.UNDECODABLE, Cause.HTML, "HTML"),
    Bad("cut JSON", b'{"predictions":[[0.5,0.2', Outcome.UNDECODABLE, Cause.NOT_JSON),
    Bad("cut JSON with NaN", b'{"predictions":[[NaN,0.2', Outcome.UNDECODABLE, Cause.NOT_JSON),
    Bad("no UTF-8", b'{"predictions":["\xff"]}', Outcome.UNDECODABLE, Cause.NOT_JSON),
    Bad("a name that is no UTF-8", b'{"\xff":[]}', Outcome.UNDECODABLE, Cause.NOT_JSON),
    Bad("no UTF-8, with NaN", b'{"predictions":["\xff",NaN]}', Outcome.UNDECODABLE, Cause.NOT_JSON),
    Bad("half a surrogate pair", b'{"predictions":["\\ud800"]}', Outcome.UNDECODABLE, Cause.NOT_JSON),
    Bad("deep JSON", b"[" * 4000, Outcome.UNDECODABLE, Cause.NOT_JSON),
    Bad("a huge whole number", b"9" * 4000, Outcome.UNDECODABLE, Cause.SHAPE),
    Bad(
        "a huge whole number in a row",
        b'{"predictions":[[0.5,0.5,-%b]]}' % (b"9" * 400),
        Outcome.NON_FINITE,
        Cause.NON_FINITE,
    ),
    Bad("a number beyond a float", b'{"predictions":[[0.5,0.5,1e400]]}', Outcome.UNDECODABLE, Cause.NOT_JSON),
    Bad("no protocol's shape", b'{"result":[[0.5,0.25,0.25]]}', Outcome.UNDECODABLE, Cause.SHAPE, "custom"),
    Bad("a language model's answer", b'{"choices":[{"text":"a"}]}', Outcome.UNDECODABLE, Cause.SHAPE, "language model"),
    Bad("no instance", b'{"predictions":[]}', Outcome.UNDECODABLE, Cause.SHAPE),
    Bad("V1 labels", b'{"predictions":[7]}', Outcome.LABELS_ONLY, Cause.LABELS),
    Bad("V1 labels as floats", b'{"predictions":[7.0]}', Outcome.LABELS_ONLY, Cause.LABELS, "binaryScore"),
    Bad("V1 labels as text", b'{"predictions":["a"]}', Outcome.LABELS_ONLY, Cause.LABELS),
    Bad("one-hot labels", b'{"predictions":[[0,1,0]]}', Outcome.LABELS_ONLY, Cause.LABELS, "whole numbers"),
    Bad(
        "one-hot truth values",
        b'{"predictions":[[false,true,false]]}',
        Outcome.LABELS_ONLY,
        Cause.LABELS,
        reading=replace(ABC, task="multilabel"),
    ),
    Bad(
        "binaryScore of labels",
        b'{"predictions":[1]}',
        Outcome.LABELS_ONLY,
        Cause.LABELS,
        reading=replace(YES_NO, values="binaryScore"),
    ),
    Bad(
        "V2 labels from MLServer",
        b'{"model_name":"digits","id":"x","outputs":[{"name":"predict","shape":[1,1],"datatype":"INT64","data":[7]}]}',
        Outcome.LABELS_ONLY,
        Cause.LABELS,
        "INT64",
    ),
    Bad(
        "Triton's classification",
        b'{"outputs":[{"name":"p","shape":[1,2],"datatype":"BYTES","data":["0.959733:7","0.03:1:one"]}]}',
        Outcome.TOP_K_ONLY,
        Cause.TOP_K,
    ),
    Bad("some classes by name", b'{"predictions":[{"a":0.9}]}', Outcome.TOP_K_ONLY, Cause.TOP_K, "1 of 3"),
    Bad("label and score", b'{"predictions":[{"label":"a","score":0.9}]}', Outcome.TOP_K_ONLY, Cause.TOP_K),
    Bad("too few columns", b'{"predictions":[[0.5,0.5]]}', Outcome.CLASS_COUNT, Cause.WIDTH, "2 numbers, 3"),
    Bad("an empty row", b'{"predictions":[[]]}', Outcome.CLASS_COUNT, Cause.WIDTH),
    Bad(
        "V2: floats, but not as many",
        b'{"outputs":[{"name":"p","shape":[1,4],"datatype":"FP32","data":[0.25,0.25,0.25,0.25]}]}',
        Outcome.CLASS_COUNT,
        Cause.WIDTH,
        "4 numbers, 3",
    ),
    Bad(
        "a stranger among the names",
        b'{"predictions":[{"a":0.5,"b":0.25,"z":0.25}]}',
        Outcome.CLASS_COUNT,
        Cause.NAMES,
        "'z'",
    ),
    Bad("no class among the keys", b'{"predictions":[{"p":[1.0]}]}', Outcome.UNDECODABLE, Cause.OUTPUT, "'p'"),
    Bad(
        "keys differ between instances",
        b'{"predictions":[{"a":0.5,"b":0.25,"c":0.25},{"a":0.5,"b":0.25,"d":0.25}]}',
        Outcome.UNDECODABLE,
        Cause.NAMES,
    ),
    Bad(
        "no such output",
        b'{"outputs":[{"name":"predict","shape":[1,3],"datatype":"FP32","data":[1.0,0.0,0.0]}]}',
        Outcome.UNDECODABLE,
        Cause.OUTPUT,
        "'predict'",
        replace(ABC, output="predict_proba"),
    ),
    Bad(
        "no such key",
        b'{"predictions":[{"label":"a"}]}',
        Outcome.UNDECODABLE,
        Cause.OUTPUT,
        "'label'",
        replace(ABC, output="probabilities"),
    ),
    Bad(
        "a pointer that leads nowhere",
        b'{"a":[1]}',
        Outcome.UNDECODABLE,
        Cause.OUTPUT,
        "'/a/1'",
        replace(ABC, protocol="custom", pointer="/a/1"),
    ),
    Bad(
        "an expression that finds nothing",
        b'{"a":[1]}',
        Outcome.UNDECODABLE,
        Cause.OUTPUT,
        "'b.c'",
        replace(ABC, protocol="custom", pointer="jmespath:b.c"),
    ),
    Bad(
        "an expression that does not fit",
        b'{"a":["x"]}',
        Outcome.UNDECODABLE,
        Cause.OUTPUT,
        "does not fit",
        replace(ABC, protocol="custom", pointer="jmespath:[sum(a)]"),
    ),
    Bad(
        "columns of different length",
        b'{"predictions":{"a":[0.5],"b":[0.25,0.25],"c":[0.25]}}',
        Outcome.UNDECODABLE,
        Cause.SHAPE,
        "different length",
    ),
    Bad(
        "V2: data that does not fill the shape",
        b'{"outputs":[{"name":"p","shape":[2,3],"datatype":"FP32","data":[0.5,0.25,0.25]}]}',
        Outcome.UNDECODABLE,
        Cause.SHAPE,
        "[2, 3] with 3",
    ),
    Bad(
        "V2: a binary tensor without its header",
        b'{"outputs":[{"name":"p","shape":[1,3],"datatype":"FP32","parameters":{"binary_data_size":12}}]}'
        b"\0\0\0\0\0\0\0\0\0\0\0\0",
        Outcome.UNDECODABLE,
        Cause.NOT_JSON,
    ),
    Bad("null", b'{"predictions":[[null,null,null]]}', Outcome.NON_FINITE, Cause.NON_FINITE),
    Bad("null for an instance", b'{"predictions":[null]}', Outcome.NON_FINITE, Cause.NON_FINITE),
    Bad("bare NaN", b'{"predictions":[[NaN,0.5,0.5]]}', Outcome.NON_FINITE, Cause.NON_FINITE),
    Bad("bare Infinity", b'{"predictions":[[Infinity,0.5,0.5]]}', Outcome.NON_FINITE, Cause.NON_FINITE),
    Bad("NaN as text", b'{"predictions":[["NaN","NaN","NaN"]]}', Outcome.NON_FINITE, Cause.NON_FINITE),
    Bad(
        "a whole number beyond floats",
        b'{"predictions":[[1' + b"0" * 400 + b",0.5,0.5]]}",
        Outcome.NON_FINITE,
        Cause.NON_FINITE,
    ),
    Bad(
        "an infinite logit",
        b'{"predictions":[[-Infinity,0.5,0.5]]}',
        Outcome.NON_FINITE,
        Cause.NON_FINITE,
        reading=replace(ABC, values="logits"),
    ),
    Bad("text among numbers", b'{"predictions":[[0.5,"x",0.5]]}', Outcome.UNDECODABLE, Cause.NOT_NUMBER),
    Bad("a deeper list", b'{"predictions":[[0.5,[0.5],0.5]]}', Outcome.UNDECODABLE, Cause.NOT_NUMBER),
    Bad("negative", b'{"predictions":[[1.5,-0.25,-0.25]]}', Outcome.NOT_PROBABILITIES, Cause.NEGATIVE, "-0.25"),
    Bad(
        "a sum above 1",
        b'{"predictions":[[0.5,0.5,0.25]]}',
        Outcome.NOT_PROBABILITIES,
        Cause.SUM,
        "sum to 1.25, 0.25 above 1",
    ),
    Bad("a sum below 1", b'{"predictions":[[0.5,0.25,0.2]]}', Outcome.NOT_PROBABILITIES, Cause.SUM, "0.05 below 1"),
    Bad(
        "multilabel above 1",
        b'{"predictions":[[1.5,0.5,0.5]]}',
        Outcome.NOT_PROBABILITIES,
        Cause.RANGE,
        "1.5",
        replace(ABC, task="multilabel"),
    ),
    Bad(
        "a score in percent",
        b'{"predictions":[75.5]}',
        Outcome.NOT_PROBABILITIES,
        Cause.RANGE,
        "75.5",
        replace(YES_NO, values="binaryScore"),
    ),
    Bad(
        "log-probabilities above 0",
        b'{"predictions":[[0.5,0.25,0.25]]}',
        Outcome.NOT_PROBABILITIES,
        Cause.SUM,
        "above 1",
        replace(ABC, values="logProbabilities"),
    ),
    Bad("too large", b" " * (CAP + 1), Outcome.TOO_LARGE, Cause.SIZE, str(CAP)),
    Bad("not gzip", b"{}", Outcome.UNDECODABLE, Cause.ENCODING, encoding=b"gzip"),
    Bad("an unknown coding", b"{}", Outcome.UNDECODABLE, Cause.ENCODING, "'br'", encoding=b"br"),
    Bad(
        "a gzip bomb",
        gzip.compress(b" " * 10_000_000),
        Outcome.TOO_LARGE,
        Cause.SIZE,
        encoding=b"gzip",
    ),
    Bad(
        "a gzip stream cut short",
        gzip.compress(b'{"predictions":[[0.5,0.25,0.25]]}')[:-9],
        Outcome.UNDECODABLE,
        Cause.ENCODING,
        encoding=b"gzip",
    ),
]


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_says_why_not(case: Bad) -> None:
    found = read(case.body, case.reading, status=case.status, encoding=case.encoding)
    if isinstance(found, list):
        assert len(found) == 1
        found = found[0]  # type: ignore[assignment]
    assert isinstance(found, Unread)
    assert (found.outcome, found.cause) == (case.outcome, case.cause), found.message
    assert case.says in found.message


def test_one_bad_row_is_not_the_batch() -> None:
    rows = read(b'{"predictions":[[0.5,0.25,0.25],[null,0.5,0.5],[0.5,0.25,0.5],[0.25,0.25,0.5]]}')
    assert isinstance(rows, list)
    outcomes = [row.outcome if isinstance(row, Unread) else Outcome.OK for row in rows]
    assert outcomes == [Outcome.OK, Outcome.NON_FINITE, Outcome.NOT_PROBABILITIES, Outcome.OK]


@pytest.mark.parametrize(
    ("encoding", "compressed"),
    [
        (b"gzip", gzip.compress),
        (b"X-GZIP", gzip.compress),
        (b"deflate", zlib.compress),
        (b"deflate", lambda body: zlib.compress(body, wbits=-15)),
        (b"identity", bytes),
    ],
    ids=["gzip", "x-gzip", "zlib", "raw deflate", "identity"],
)
def test_inflates(encoding: bytes, compressed) -> None:  # type: ignore[no-untyped-def]
    rows = read(compressed(b'{"predictions":[[0.5,0.25,0.25]]}'), encoding=encoding)
    assert isinstance(rows, list)
    assert probabilities(rows[0]) == pytest.approx([0.5, 0.25, 0.25])


def test_a_reader_that_knows_the_headers_looks_at_each_body() -> None:
    reader = Reader(ModelReading(classes=["a", "b"]), Role.BASELINE, CAP)
    headers, good = b"content-type: application/json\r\n", b'{"predictions":[[0.5,0.5]]}'
    first = reader.read(200, headers, good)
    assert reader.read(200, headers, good) == first
    large = reader.read(200, headers, good + b" " * CAP)
    assert isinstance(large, Unread)
    assert large.outcome is Outcome.TOO_LARGE
    assert reader.read(200, headers + b"Content-Encoding: gzip\r\n", gzip.compress(good)) == first
    assert reader.read(200, headers, good) == first
