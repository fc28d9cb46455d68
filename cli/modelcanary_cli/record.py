"""Decision records as files and as the bytes in them: written whole, read with an error that names the field.

Called by the commands that judge and by `report`. What a record holds is the gate's to say.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from modelcanary_cli.errors import InputError
from modelcanary_cli.files import write_whole
from modelcanary_gate.record import SCHEMA_VERSION, Record, finite


def write_record(record: Record, path: Path) -> None:
    """Writes the record whole or not at all. Raises InputError when the place cannot be written to."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(finite(record)), indent=1))


def read_record(path: Path) -> Record:
    """Raises InputError naming the field."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", "give the path of a decision record") from error
    return decode_record(content, path)


def decode_record(content: bytes, source: str | Path) -> Record:
    """Raises InputError naming the source and the field."""
    try:
        version = msgspec.json.decode(content, type=_Versioned).schemaVersion
        if version > SCHEMA_VERSION:
            raise InputError(
                source,
                f"schemaVersion {version} is newer than this modelcanary reads ({SCHEMA_VERSION})",
                "use the modelcanary that wrote it, or a later one",
            )
        return msgspec.json.decode(content, type=Record)
    except msgspec.DecodeError as error:
        raise InputError(
            source,
            f"is not a decision record: {error}",
            "give a file that `run`, `evaluate --record` or `replay --record` wrote",
        ) from error


@dataclass(frozen=True, slots=True)
class _Versioned:
    schemaVersion: int
