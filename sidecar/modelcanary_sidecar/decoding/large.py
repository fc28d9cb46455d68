"""The rows of many large answers at once, by the gate's `probabilities`.

`rows` imports it when the first large answer comes: most models have few classes, and their sidecars do without numpy.
"""

from collections.abc import Sequence

import numpy as np

from modelcanary_gate.errors import DataError
from modelcanary_gate.probabilities import log_probabilities
from modelcanary_gate.spec import Task, Values

#: Of one answer: its floats row by row, as msgpack has them, how many rows, and the order of its columns if it is not
#: the classes'.
Block = tuple[bytes, int, Sequence[int] | None]
_FLOAT = np.dtype([("mark", "u1"), ("value", ">f8")])


def packed_logs(blocks: Sequence[Block], values: Values, task: Task) -> bytes | None:
    """Little-endian float32 log-probabilities, all rows behind each other; None where any of them cannot be used.

    The rows of all blocks have one length. numpy's calls take as long for one answer as for ten.
    """
    floats = np.frombuffer(b"".join([block[0] for block in blocks]), _FLOAT)["value"].astype(np.float64)
    count = sum([block[1] for block in blocks])
    try:
        logs = log_probabilities(floats.reshape(count, -1), values, task)
    except DataError:
        return None
    start = 0
    for _, rows, order in blocks:
        if order is not None:
            logs[start : start + rows] = logs[start : start + rows, order]
        start += rows
    with np.errstate(over="ignore"):
        return logs.astype("<f4").tobytes()
