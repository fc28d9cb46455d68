"""Where each protocol's answer keeps its rows of numbers: JSON value in, `Table` out.

`auto` goes by the shape of the answer and not by the declared protocol of the request, so a baseline and a
candidate behind different servers are each read by their own.
"""

from collections.abc import Callable, Mapping
from math import prod

from modelcanary_gate.protocol import ModelReading
from modelcanary_gate.spec import ProtocolName, Task, Values
from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.decoding.binary import floats, texts
from modelcanary_sidecar.decoding.pointer import finder
from modelcanary_sidecar.decoding.table import Table, from_value, ranked, some_names
from modelcanary_sidecar.decoding.unreadable import Cause, ReadingError, Unreadable

Preset = Callable[[object], Table]
_FLOATS = frozenset({"FP16", "BF16", "FP32", "FP64"})


def preset_for(reading: ModelReading) -> Preset:
    """The function that finds the rows in a role's answers."""
    protocol = _protocol(reading.protocol)
    classes = frozenset(reading.classes)
    if protocol is ProtocolName.CUSTOM:
        if reading.pointer is None:
            raise ReadingError("model.pointer: missing; protocol custom needs a pointer to the numbers")
        find = finder(reading.pointer)
        flat = 1 not in widths_of(reading)
        return lambda value: from_value(find(value), reading.output, classes, flat_row=flat)
    if protocol is ProtocolName.OPENAI:
        raise ReadingError("model.protocol: openai answers texts, which have no probabilities of classes")
    widths = widths_of(reading)
    single = 1 in widths

    def predictions(value: object) -> Table:
        return _predictions(value, reading.output, classes)

    def tensors(value: object) -> Table:
        return _tensors(value, reading.output, widths, single)

    presets: Mapping[ProtocolName, Preset] = {
        ProtocolName.KSERVE_V1: predictions,
        ProtocolName.MLFLOW: predictions,
        ProtocolName.OIP_V2: tensors,
        ProtocolName.SELDON: _seldon,
    }
    if protocol is not ProtocolName.AUTO:
        return presets[protocol]

    def auto(value: object) -> Table:
        if type(value) is dict and "outputs" in value:  # the most common, and what is recognised first
            return tensors(value)
        if isinstance(value, list):  # what BentoML makes of an array that a service returns
            return from_value(value, reading.output, classes, flat_row=not single)
        return presets[_recognise(value)](value)

    return auto


def widths_of(reading: ModelReading) -> frozenset[int]:
    """How many columns an answer may have: one per class, or one that stands for two classes."""
    if reading.values == Values.BINARY_SCORE:
        return frozenset({1})
    if reading.values == Values.LOGITS and reading.task == Task.BINARY:
        return frozenset({1, 2})
    return frozenset({len(reading.classes)})


def _protocol(name: str) -> ProtocolName:
    try:
        return ProtocolName(name)
    except ValueError as error:
        known = ", ".join(ProtocolName)
        raise ReadingError(f"model.protocol: {name!r} is not known; one of {known}") from error


def _recognise(value: object) -> ProtocolName:
    if isinstance(value, dict):
        if "outputs" in value:
            return ProtocolName.OIP_V2
        if "predictions" in value:
            return ProtocolName.KSERVE_V1
        if isinstance(value.get("data"), dict):
            return ProtocolName.SELDON
        if "choices" in value:
            raise _shape("`choices`, as a language model answers: protocol: openai is for it")
    raise _shape(
        "neither `outputs` (V2), `predictions` (V1, MLflow) nor `data` (Seldon), nor a list; "
        "protocol: custom with a pointer reads others"
    )


def _predictions(value: object, output: str | None, classes: frozenset[str]) -> Table:
    """KServe V1 and MLflow: `{"predictions": [...]}`."""
    if not isinstance(value, dict) or "predictions" not in value:
        raise _shape("no `predictions`")
    return from_value(value["predictions"], output, classes, flat_row=False)


def _tensors(value: object, wanted: str | None, widths: frozenset[int], single: bool) -> Table:
    """Open Inference V2: the output of that name, else the first of floats that is as wide as needed."""
    outputs = value.get("outputs") if isinstance(value, dict) else None
    if not isinstance(outputs, list) or not outputs:
        raise _shape("no `outputs`")
    found: Table | None = None
    refused: Unreadable | None = None
    names = []
    for output in outputs:
        if not isinstance(output, dict):
            raise _shape("an output that is no object")
        name = output.get("name")
        names.append(name)
        if wanted is not None and name != wanted:
            continue
        try:
            table = _tensor(output, single)
        except Unreadable as error:
            refused = refused or error
            continue
        if wanted is not None or len(table.rows[0]) in widths:
            return table
        found = found or table
    if found is not None:
        return found  # whose width the caller reports
    if refused is not None:
        raise refused
    there = some_names([str(name) for name in names])
    raise Unreadable(Outcome.UNDECODABLE, Cause.OUTPUT, f"no output {wanted!r}; the answer has {there}")


def _tensor(output: dict[str, object], single: bool) -> Table:
    data, shape, datatype = output.get("data"), output.get("shape"), output.get("datatype")
    if not isinstance(data, (list, bytes)) or not data:
        raise _shape("an output without `data`")
    if not isinstance(datatype, str) or datatype not in _FLOATS:
        if ranked(texts(data) if isinstance(data, bytes) else _flat(data)):
            raise Unreadable(Outcome.TOP_K_ONLY, Cause.TOP_K, "ranked classes, not every class's probability")
        raise Unreadable(
            Outcome.LABELS_ONLY, Cause.LABELS, f"an output of datatype {str(datatype)[:20]!r}, not of floats"
        )
    data = floats(data, datatype) if isinstance(data, bytes) else _flat(data)
    if not isinstance(shape, list):
        raise _shape("an output without a `shape`")
    for size in shape:  # a generator would take longer than all that is looked at here
        if type(size) is not int or size <= 0:
            raise _shape("an output without a `shape`")
    if not shape or prod(shape) != len(data):
        raise _shape(f"an output of shape {shape[:8]} with {len(data)} numbers")
    width = shape[-1]
    if single and len(shape) == 1:
        width = 1  # one number per instance, without an axis of its own
    if width == len(data):
        return Table([data], floats=True)
    return Table([data[start : start + width] for start in range(0, len(data), width)], floats=True)


def _flat(data: list[object]) -> list[object]:
    """Row-major: V2 allows nested lists too."""
    while data and isinstance(data[0], list):
        if not all(isinstance(row, list) for row in data):
            raise _shape("an output with rows of different depth")
        data = [number for row in data if isinstance(row, list) for number in row]
    return data


def _seldon(value: object) -> Table:
    """Seldon: `data.ndarray`, or `data.tensor`; `data.names` are the columns."""
    data = value.get("data") if isinstance(value, dict) else None
    if not isinstance(data, dict):
        raise _shape("no `data`")
    names = data.get("names")
    columns = tuple(map(str, names)) if isinstance(names, list) and names else None
    if "ndarray" in data:
        table = from_value(data["ndarray"], None, frozenset(), flat_row=False)
        return Table(table.rows, columns)
    tensor = data.get("tensor")
    if isinstance(tensor, dict):
        shaped = {"data": tensor.get("values"), "shape": tensor.get("shape"), "datatype": "FP64"}
        return Table(_tensor(shaped, single=False).rows, columns, floats=True)
    raise _shape("neither `data.ndarray` nor `data.tensor`")


def _shape(message: str) -> Unreadable:
    return Unreadable(Outcome.UNDECODABLE, Cause.SHAPE, message)
