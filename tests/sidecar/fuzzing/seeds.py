"""What fuzzing begins with: the tables of the framing tests, and answers and requests of every protocol."""

from tests.sidecar.framing import answer_cases, request_cases

_JSON = (
    b'{"predictions":[[0.5,0.5],[NaN,0.5]]}',
    b'{"predictions":[{"b":0.5,"a":0.5}]}',
    b'{"predictions":[0.7,1]}',
    b'{"outputs":[{"name":"data","shape":[1,2],"datatype":"FP64","data":[0.25,0.75]}]}',
    b'{"outputs":[{"name":"p","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}' + bytes(8),
    b'{"outputs":[{"name":"p","shape":[1,1],"datatype":"BYTES","data":["0.9:1"]}]}',
    b'{"data":{"names":["b","a"],"tensor":{"shape":[1,2],"values":[0.25,0.75]}}}',
    b'{"data":{"names":["b","a"],"ndarray":[[0.25,0.75]]}}',
    b'[{"label":"a","score":0.9}]',
    b'{"data":[[[1e400,-Infinity,null,true,"NaN"]]]}',
    b'{"id":"x","inputs":[{"name":"i","shape":[2,3],"datatype":"FP32","data":[1,2,3,4,5,6]}]}',
    b'{"meta":{"puid":"y"},"data":{"ndarray":[[1,2]]}}',
    b'{"dataframe_split":{"columns":["a"],"data":[[1]]}}',
    b'{"instances":[[1],[2]]}',
)


def seeds(target: str) -> list[bytes]:
    if target == "requests":
        return [b"\x01\x80" + case.wire for case in request_cases.CASES if len(case.wire) < 1000]
    if target == "answers":
        cases = [case for case in answer_cases.CASES if len(case.wire) < 1000]
        return [bytes([8 * case.ends + (case.method == "HEAD")]) + b"\x01\x80" + case.wire for case in cases]
    if target == "decoded":
        return [
            bytes([reader, coding, length]) + body for reader in range(0, 90, 7) for coding, length, body in _bodies()
        ]
    return [bytes([coding, length]) + body for coding, length, body in _bodies()]


def _bodies() -> list[tuple[int, int, bytes]]:
    return [(coding, length, body) for coding in range(4) for length in (0, 201) for body in _JSON]
