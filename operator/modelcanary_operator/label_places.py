"""Endpoints from which labels are read: brokers of Kafka and roots of files, and what of them a ModelCanary may name.

Pure. `endpoints` reads them, the operator checks names by them, and the follower of `labels.sources` connects by them:
whatever opens a door is in files that the admin mounts for the follower alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from modelcanary_gate.protocol import LabelSource
from modelcanary_gate.vocabulary import SourceKind
from modelcanary_operator.errors import EndpointsInvalid

_BROKER = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
_GROUP = re.compile(r"[A-Za-z0-9._-]{1,100}")
_URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#\s]*)?|file:///[^?#\s]*")
_FIELDS = {
    SourceKind.KAFKA: ("type", "brokers", "propertiesFile", "groupPrefix", "topics", "deadLetterTopics", "namespaces"),
    SourceKind.FILES: ("type", "url", "propertiesFile", "paths", "namespaces"),
}
_ALL = ("*",)


@dataclass(frozen=True, slots=True)
class LabelPlace:
    """Patterns have `*` for anything. `properties_file`: how to connect, in lines of `name=value`."""

    kind: SourceKind
    brokers: tuple[str, ...] = ()  # kafka
    url: str = ""  # files: the root of all paths
    properties_file: Path | None = None
    group_prefix: str = "modelcanary"
    places: tuple[str, ...] = _ALL  # topics or paths that may be read
    dead_letter_topics: tuple[str, ...] = ()  # that may be written

    def problem(self, source: LabelSource) -> str:
        """What of a source is not allowed, with its field and the remedy; empty where nothing is."""
        field = "topic" if self.kind is SourceKind.KAFKA else "path"
        if not _fits(source.place, self.places):
            return f"{field}: {source.place!r} is not among what the cluster's admin lists: {', '.join(self.places)}"
        if source.deadLetterTopic and not _fits(source.deadLetterTopic, self.dead_letter_topics):
            listed = ", ".join(self.dead_letter_topics) or "none"
            return (
                f"deadLetterTopic: {source.deadLetterTopic!r} is not among what the cluster's admin lists to be "
                f"written: {listed}; leave it out, and what is no label is counted"
            )
        return ""


def label_place(name: str, fields: Mapping[str, object]) -> LabelPlace:
    """Of an entry of type kafka or files. Raises EndpointsInvalid."""
    kind = SourceKind(str(fields["type"]))
    for key in fields:
        if key not in _FIELDS[kind]:
            raise EndpointsInvalid(f"{name}.{key}", "unknown field", f"known here: {', '.join(_FIELDS[kind])}")
    properties = fields.get("propertiesFile")
    if properties is not None and not (isinstance(properties, str) and properties.startswith("/")):
        remedy = "write for example /etc/modelcanary/secrets/x"
        raise EndpointsInvalid(f"{name}.propertiesFile", "is no absolute path of a file", remedy)
    file = Path(properties) if isinstance(properties, str) else None
    if kind is SourceKind.FILES:
        places = _words(name, fields, "paths", _ALL)
        return LabelPlace(kind, url=_url(name, fields), properties_file=file, places=places)
    brokers = _words(name, fields, "brokers", ())
    for broker in brokers:
        if not _BROKER.fullmatch(broker):
            raise EndpointsInvalid(f"{name}.brokers", f"{broker!r} is no host:port", "write [kafka.data:9092]")
    if not brokers:
        raise EndpointsInvalid(f"{name}.brokers", "is missing", "write [kafka.data:9092]")
    prefix = fields.get("groupPrefix", "modelcanary")
    if not isinstance(prefix, str) or not _GROUP.fullmatch(prefix):
        raise EndpointsInvalid(f"{name}.groupPrefix", "is no name", 'use letters, digits, ".", "_" and "-"')
    return LabelPlace(
        kind,
        brokers=brokers,
        properties_file=file,
        group_prefix=prefix,
        places=_words(name, fields, "topics", _ALL),
        dead_letter_topics=_words(name, fields, "deadLetterTopics", ()),
    )


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _words(name: str, fields: Mapping[str, object], field: str, default: tuple[str, ...]) -> tuple[str, ...]:
    written = fields.get(field)
    if written is None:
        return default
    if not isinstance(written, list) or not all(isinstance(each, str) and each.strip() for each in written):
        raise EndpointsInvalid(f"{name}.{field}", "is no list of texts", "list them, or leave it out")
    return tuple(written)


def _url(name: str, fields: Mapping[str, object]) -> str:
    written = fields.get("url")
    if not isinstance(written, str) or not _URL.fullmatch(written) or ".." in written.split("/"):
        remedy = "write s3://bucket/folder, or file:///folder where one is mounted for modelcanary-labels"
        raise EndpointsInvalid(f"{name}.url", "is no root of files", remedy)
    return written.rstrip("/")
