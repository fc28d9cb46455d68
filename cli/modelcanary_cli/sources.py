"""Files that a user names: paths, folders, globs and s3:// addresses, each made a local file while it is read.

Called by `labels`, and by `follow.roots` for its files. It must not know what is in a file. S3 is Arrow's own client,
with the credentials that the AWS tools use: environment, ~/.aws, a pod's web identity.
"""

import glob
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.fs

from modelcanary_cli.errors import InputError

_REMEDY = "give paths of files or folders, globs, or s3://bucket/key"


@dataclass(frozen=True, slots=True)
class Source:
    """One file. `name` is what messages call it."""

    name: str
    path: str
    remote: pa.fs.FileSystem | None = None

    @contextmanager
    def local(self) -> Iterator[Path]:
        """Its path on this machine; a copy of a remote one is there for that time, whole. Raises InputError."""
        if self.remote is None:
            yield Path(self.path)
            return
        with tempfile.TemporaryDirectory(prefix="modelcanary-") as folder:
            # the name says how it is encoded
            copy = Path(folder) / PurePosixPath(self.path).name
            # as stored: the suffix tells the reader whether it is compressed
            with (
                _reaching(self.name),
                self.remote.open_input_stream(self.path, compression=None) as stream,
                copy.open("wb") as into,
            ):
                shutil.copyfileobj(stream, into, 1 << 20)
            try:
                yield copy
            except InputError as error:
                raise InputError(self.name, error.problem, error.remedy) from error


def find(names: Sequence[str]) -> list[Source]:
    """All files that are meant, in the order of the names; those of a folder or glob by their paths.

    In a folder, at any depth, files whose names begin with `.` or `_` are left out, as writers of tables leave such
    marks. Raises InputError where a name means no file.
    """
    found = [source for name in names for source in (_remote(name) if "://" in name else _local(name))]
    once = {source.name: source for source in found}
    return list(once.values())


def _local(name: str) -> list[Source]:
    path = Path(name)
    if path.is_dir():
        inside = sorted(str(item) for item in path.rglob("*") if item.is_file() and _counts(item.relative_to(path)))
    elif path.exists():
        inside = [name]
    elif not glob.has_magic(name):
        raise InputError(name, "is not there", _REMEDY)
    else:
        # Path's own refuses absolute patterns
        inside = sorted(item for item in glob.glob(name, recursive=True) if Path(item).is_file())  # noqa: PTH207
    if not inside:
        raise InputError(name, "has no files" if path.is_dir() else "fits no file", _REMEDY)
    return [Source(item, item) for item in inside]


def _remote(name: str) -> list[Source]:
    address, mark, options = name.partition("?")  # `?` begins Arrow's options, such as endpoint_override
    if not address.startswith("s3://"):
        raise InputError(name, "is of a kind that is not known", _REMEDY)
    fixed = address.partition("*")[0]
    base = fixed if fixed == address else fixed.rpartition("/")[0]
    with _reaching(name):
        system, path = pa.fs.FileSystem.from_uri(base + mark + options)
        info = system.get_file_info(path)
        if info.type == pa.fs.FileType.File:
            return [Source(address, path, system)]
        if info.type == pa.fs.FileType.NotFound:
            raise InputError(name, "is not there", _REMEDY)
        inside = system.get_file_info(pa.fs.FileSelector(path, recursive=True))
    fits = re.compile(_expression(address.removeprefix("s3://")))
    paths = sorted(
        item.path
        for item in inside
        if item.type == pa.fs.FileType.File
        and (fits.fullmatch(item.path) if fixed != address else _counts(PurePosixPath(item.path).relative_to(path)))
    )
    if not paths:
        raise InputError(name, "has no files" if fixed == address else "fits no file", _REMEDY)
    return [Source(f"s3://{item}", item, system) for item in paths]


def _counts(inside: PurePosixPath | Path) -> bool:
    return not any(part.startswith((".", "_")) for part in inside.parts)


def _expression(pattern: str) -> str:
    """`**/` is any depth, `*` anything but a slash."""
    parts = re.split(r"(\*\*/|\*)", pattern)
    meaning = {"**/": "(?:.*/)?", "*": "[^/]*"}
    return "".join(meaning.get(part, re.escape(part)) for part in parts)


@contextmanager
def _reaching(name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        remedy = "see that it is there, and that the AWS credentials and region are set"
        raise InputError(name, f"cannot be read ({reason})", remedy) from error
