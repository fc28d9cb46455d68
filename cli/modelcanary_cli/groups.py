"""The runs in a file of pairs, and that no pair of a run comes twice.

Called by `pairs`. Must not know what a pair holds beside its run, its id and its place in the request.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modelcanary_cli.columns import scalars, texts
from modelcanary_cli.errors import InputError
from modelcanary_cli.tables import Rows

COLUMNS = ("run", "id", "index")

Places = slice | NDArray[np.intp]


def grouped(rows: Rows, *, instances: bool) -> list[tuple[str, Places]]:
    """The rows of each run, in the file's order. Raises InputError where a pair comes twice: it would count twice.

    `instances`: pairs of one request share its id, and `index` tells them apart. In files that are no exports a
    column of that name may be anything, as the row numbers that data frames are saved with.
    """
    groups = _groups(rows)
    if "id" in rows:
        ids = texts(rows.take("id"), rows.source, "id").combine_chunks()
        index = None
        if instances and "index" in rows:
            given = np.asarray(scalars(rows.take("index"), rows.source, "index", missing=True), dtype=np.float64)
            index = np.where(np.isnan(given), 0, given).astype(np.int64)
        for run, places in groups:
            _refuse_repeated(rows, run, places, ids, index)
    return groups


def numbers_of(rows: Places, total: int) -> NDArray[np.intp]:
    """Which rows these are, of `total`."""
    return np.arange(total)[rows] if isinstance(rows, slice) else rows


def _groups(rows: Rows) -> list[tuple[str, Places]]:
    """Without the column, the file is one run."""
    if "run" not in rows:
        return [(rows.source.name.removesuffix(".gz").rsplit(".", 1)[0], slice(0, rows.count))]
    encoded = texts(rows.take("run"), rows.source, "run").combine_chunks().dictionary_encode()
    names, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    if len(starts) == len(names):
        ends = [*starts[1:].tolist(), len(codes)]
        return [(name, slice(start, end)) for name, start, end in zip(names, starts.tolist(), ends, strict=True)]
    order = np.argsort(codes, kind="stable")
    cuts = np.searchsorted(codes[order], np.arange(1, len(names)))
    return list(zip(names, np.split(order, cuts), strict=True))


def _refuse_repeated(
    rows: Rows, run: str, places: Places, ids: pa.StringArray, index: NDArray[np.int64] | None
) -> None:
    """One run at a time: a table of all ids of a file would be larger than its answers."""
    own = ids[places] if isinstance(places, slice) else ids.take(pa.array(places))
    if pc.count_distinct(own).as_py() == len(own):
        return
    codes = own.dictionary_encode().indices.to_numpy().astype(np.int64)
    if index is not None:
        distinct, place = np.unique(index[places], return_inverse=True)
        codes = codes * len(distinct) + place
    repeated = np.ones(len(codes), dtype=np.bool_)
    repeated[np.unique(codes, return_index=True)[1]] = False
    if not repeated.any():
        return
    again = int(np.argmax(repeated))
    row = int(numbers_of(places, rows.count)[again])
    which = f"the id {own[again].as_py()!r}" + ("" if index is None else f" with index {index[row]}")
    raise InputError(rows.source, f"row {row + 1}: {which} comes twice in run {run!r}", "keep one of the rows")
