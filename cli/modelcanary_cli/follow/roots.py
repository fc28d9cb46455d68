"""Roots of files that the admin lists: a bucket's folder, or one that is mounted. What is in them now, oldest first.

Called by `folders`. It must not know what is in a file.
"""

import calendar
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.fs

from modelcanary_cli.errors import InputError
from modelcanary_cli.follow.properties import read_properties
from modelcanary_cli.sources import Source
from modelcanary_operator.label_places import LabelPlace

#: What may be said of an object store, as Arrow calls it.
_S3 = frozenset(
    {"access_key", "secret_key", "session_token", "role_arn", "external_id", "region", "endpoint_override", "anonymous"}
)
_DEEPEST = 32


@dataclass(frozen=True, slots=True)
class Found:
    """`changed`: nanoseconds since the epoch; `whole`: it never grows, because its store replaces objects."""

    source: Source
    size: int
    changed: int
    whole: bool


class Root:
    """`within` is below the endpoint's URL. Raises InputError where the settings cannot be used."""

    def __init__(self, place: LabelPlace, within: str) -> None:
        properties = read_properties(place.properties_file, _S3)
        scheme, _, path = f"{place.url}/{within}".partition("://")
        self._remote = scheme == "s3"
        self._path = posixpath.normpath(re.sub("/+", "/", path))
        self.name = f"{scheme}://{self._path}"
        with reaching(self.name):
            self._system = _s3(place.url, properties) if self._remote else pa.fs.LocalFileSystem()

    def young(self, horizon: float) -> list[Found]:
        """Files that changed since, oldest first. Raises InputError where the store does not answer."""
        with reaching(self.name):
            found = [each for each in self._walk(self._path, (), horizon) if each.changed >= horizon * 1e9]
        return sorted(found, key=lambda each: (each.changed, each.source.path))

    def read(self, found: Found, start: int, length: int) -> bytes:
        with reaching(found.source.name), self._system.open_input_file(found.source.path) as file:
            file.seek(start)
            return bytes(file.read(length))

    def _walk(self, path: str, parts: tuple[str, ...], horizon: float) -> Iterator[Found]:
        if not parts:
            itself = self._system.get_file_info(path)
            if itself.type == pa.fs.FileType.File:
                yield self._found(itself)
                return
        for item in self._system.get_file_info(pa.fs.FileSelector(path, allow_not_found=True)):
            if item.base_name.startswith((".", "_")):
                continue  # as writers of tables leave marks
            if item.type == pa.fs.FileType.File:
                yield self._found(item)
            elif item.type == pa.fs.FileType.Directory and len(parts) < _DEEPEST:
                below = (*parts, item.base_name)
                end = end_of(below)
                if end is None or end >= horizon:
                    yield from self._walk(item.path, below, horizon)

    def _found(self, item: "pa.fs.FileInfo") -> Found:
        name = f"s3://{item.path}" if self._remote else item.path
        source = Source(name, item.path, self._system if self._remote else None)
        return Found(source, item.size, item.mtime_ns or 0, self._remote)


def end_of(parts: tuple[str, ...]) -> float | None:
    """When the time is over that folders are called by, as year/month/day/hour, in seconds since the epoch.

    None where they are no times: then nobody knows what is in them without a look.
    """
    widths = (4, 2, 2, 2)
    if not all(part.isdecimal() and len(part) == width for part, width in zip(parts, widths, strict=False)):
        return None
    numbers = [int(part) for part in parts[:4]]
    try:
        year, month, day, hour = numbers + [1, 1, 1, 0][len(numbers) :]
        begin = datetime(year, month, day, hour, tzinfo=UTC)
    except ValueError:
        return None
    match len(numbers):
        case 1:
            days = 366.0
        case 2:
            days = float(calendar.monthrange(begin.year, begin.month)[1])
        case 3:
            days = 1.0
        case _:
            days = 1.0 / 24.0
    return (begin + timedelta(days=days)).timestamp()


def _s3(url: str, properties: dict[str, str]) -> "pa.fs.FileSystem":
    if not properties:
        # finds the bucket's region, and credentials as the AWS tools do
        return pa.fs.FileSystem.from_uri("/".join(url.split("/")[:3]))[0]
    given: dict[str, object] = dict(properties)
    endpoint = properties.get("endpoint_override", "")
    if "://" in endpoint:
        given["scheme"], _, given["endpoint_override"] = endpoint.partition("://")
    if "anonymous" in given:
        given["anonymous"] = properties["anonymous"] == "true"
    return pa.fs.S3FileSystem(**given)


@contextmanager
def reaching(name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        remedy = "see that it is there, and that the endpoint's propertiesFile or credentials allow it"
        raise InputError(name, f"cannot be read ({reason})", remedy) from error
