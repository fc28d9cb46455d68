"""The endpoints that the cluster's admin lists: who may be told and asked, by name. Pure but for `read_endpoints`.

ModelCanaries name them; no team writes a URL, so nobody can make the operator call what it likes. Read by `directory`,
looked up by what calls out. It must not know what is sent.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from modelcanary_gate.spec import GuardType, Spec
from modelcanary_operator.errors import EndpointsInvalid
from modelcanary_operator.label_places import LabelPlace, label_place

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")
_HEADER = re.compile(r"[A-Za-z0-9][-A-Za-z0-9]{0,99}")
_MOST = 1 << 20
_PAGERDUTY = "https://events.pagerduty.com/v2/enqueue"
_FIELDS = ("type", "url", "urlFile", "headerFiles", "namespaces", "secretFile", "routingKeyFile", "caFile", "proxy")


class EndpointType(StrEnum):
    PROMETHEUS = "prometheus"
    WEBHOOK = "webhook"
    SLACK = "slack"
    ALERTMANAGER = "alertmanager"
    PAGERDUTY = "pagerduty"
    KAFKA = "kafka"
    FILES = "files"


#: What may be told in a format of its own, and what in ours.
CALLED = frozenset({EndpointType.WEBHOOK})
ALERTED = CALLED | {EndpointType.SLACK, EndpointType.ALERTMANAGER, EndpointType.PAGERDUTY}
QUERIED = frozenset({EndpointType.PROMETHEUS})
#: Where labels are read: what an entry of these says is `label_places`' to know.
LABELS = frozenset({EndpointType.KAFKA, EndpointType.FILES})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Secrets are in files, read at each use: a mounted Secret is replaced while we run."""

    name: str
    type: EndpointType
    url: str = ""  # or
    url_file: Path | None = None  # where the URL itself is a secret
    header_files: Mapping[str, Path] = field(default_factory=dict)
    namespaces: frozenset[str] | None = None  # None: all
    secret_file: Path | None = None  # webhook: signs what is sent
    routing_key_file: Path | None = None  # pagerduty
    ca_file: Path | None = None
    proxy: str = ""  # through which it is called
    labels: LabelPlace | None = None  # kafka, files: for who follows `labels.sources`; the operator calls neither


@dataclass(frozen=True, slots=True)
class Endpoints:
    by_name: Mapping[str, Endpoint] = field(default_factory=dict)

    def find(self, namespace: str, name: str, types: frozenset[EndpointType]) -> Endpoint | None:
        """The endpoint, where this namespace may use it for this."""
        found = self.by_name.get(name)
        return found if found is not None and _allows(found, namespace) and found.type in types else None

    def problem(self, namespace: str, spec: Spec) -> str:
        """What is wrong with the first endpoint that a specification names; empty where nothing is."""
        for place, name, types in _named(spec):
            if self.find(namespace, name, types) is not None:
                continue
            found = self.by_name.get(name)
            if found is not None and _allows(found, namespace):
                words = f"{name!r} is of type {found.type}, and this needs {' or '.join(sorted(types))}"
            else:
                words = f"{name!r} is no endpoint that the cluster's admin lists for this namespace"
            known = sorted(
                each.name for each in self.by_name.values() if _allows(each, namespace) and each.type in types
            )
            remedy = f"there are: {', '.join(known)}" if known else "there is none"
            return f"{place}: {words}; {remedy}"
        for index, source in enumerate(spec.labels.sources):
            allowed = self.by_name[source.endpoint].labels
            wrong = allowed.problem(source) if allowed is not None else ""
            if wrong:
                return f"spec.labels.sources[{index}].{source.kind}.{wrong}"
        return ""


def _allows(endpoint: Endpoint, namespace: str) -> bool:
    return endpoint.namespaces is None or namespace in endpoint.namespaces


def _named(spec: Spec) -> Iterator[tuple[str, str, frozenset[EndpointType]]]:
    """Where a specification names an endpoint, which, and of what types it may be."""
    for index, guard in enumerate(spec.guards):
        if guard.type is GuardType.PROMETHEUS and guard.endpoint is not None:
            yield f"spec.guards[{index}].endpoint", guard.endpoint, QUERIED
    for index, alert in enumerate(spec.alerts):
        yield f"spec.alerts[{index}].endpoint", alert.endpoint, ALERTED
    for index, hook in enumerate(spec.webhooks):
        yield f"spec.webhooks[{index}].endpoint", hook.endpoint, CALLED
    for index, source in enumerate(spec.labels.sources):
        place = f"spec.labels.sources[{index}].{source.kind}.endpoint"
        yield place, source.endpoint, frozenset({EndpointType(source.kind)})


def read_endpoints(path: Path) -> Endpoints:
    """Of the file; an empty one lists none. Raises EndpointsInvalid with the field and the remedy."""
    try:
        with path.open("rb") as file:
            content = file.read(_MOST + 1)
    except OSError as error:
        raise EndpointsInvalid(str(path), f"cannot be read: {error.strerror}", "mount the file") from error
    if len(content) > _MOST:
        raise EndpointsInvalid(str(path), f"is larger than {_MOST} bytes", "list less")
    try:
        document = yaml.load(content, _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        place = f"line {where.line + 1}" if where is not None else "somewhere"
        raise EndpointsInvalid(str(path), f"is no YAML, or names something twice, in {place}", "correct it") from error
    return parse_endpoints(document)


class _Loader(yaml.SafeLoader):
    """Refuses a name that is there twice: YAML's own loader takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        for index, (key, _) in enumerate(node.value):
            if key.value in names[:index]:
                raise yaml.constructor.ConstructorError(None, None, "is there twice", key.start_mark)
        return super().construct_mapping(node, deep)


def parse_endpoints(document: object) -> Endpoints:
    """Raises EndpointsInvalid."""
    listed = _mapping(document, "endpoints", "map names to {type: …, url: …}")
    return Endpoints({name: _endpoint(name, written) for name, written in listed.items()})


def _endpoint(name: str, written: object) -> Endpoint:
    if not _NAME.fullmatch(name):
        raise EndpointsInvalid(repr(name), "is no name", 'use a-z, 0-9, "-" and ".", at most 63')
    fields = _mapping(written, name, "write {type: …, url: …}")
    if fields.get("type") not in tuple(EndpointType):
        raise EndpointsInvalid(f"{name}.type", f"is {fields.get('type')!r}", f"write one of {', '.join(EndpointType)}")
    kind = EndpointType(str(fields["type"]))
    if kind in LABELS:
        place = label_place(name, fields)
        return Endpoint(name=name, type=kind, namespaces=_namespaces(name, fields.get("namespaces")), labels=place)
    for key in fields:
        if key not in _FIELDS:
            raise EndpointsInvalid(f"{name}.{key}", "unknown field", f"known here: {', '.join(_FIELDS)}")
    _belongs(name, fields, "secretFile", kind, EndpointType.WEBHOOK)
    _belongs(name, fields, "routingKeyFile", kind, EndpointType.PAGERDUTY)
    if kind is EndpointType.PAGERDUTY and "routingKeyFile" not in fields:
        raise EndpointsInvalid(f"{name}.routingKeyFile", "is missing", "name the file of the integration's key")
    url = _url(name, fields, kind)
    headers = _mapping(fields.get("headerFiles"), f"{name}.headerFiles", "map header names to files")
    for header in headers:
        if not _HEADER.fullmatch(header):
            raise EndpointsInvalid(f"{name}.headerFiles.{header!r}", "is no name of a header", "use letters and -")
    return Endpoint(
        name=name,
        type=kind,
        url=url,
        url_file=_path(fields, f"{name}.urlFile"),
        header_files={header: _as_path(file, f"{name}.headerFiles.{header}") for header, file in headers.items()},
        namespaces=_namespaces(name, fields.get("namespaces")),
        secret_file=_path(fields, f"{name}.secretFile"),
        routing_key_file=_path(fields, f"{name}.routingKeyFile"),
        ca_file=_path(fields, f"{name}.caFile"),
        proxy=_proxy(name, fields.get("proxy")),
    )


def _belongs(name: str, fields: Mapping[str, object], field: str, kind: EndpointType, to: EndpointType) -> None:
    if field in fields and kind is not to:
        raise EndpointsInvalid(f"{name}.{field}", f"belongs to type: {to}, and only to it", "remove it")


def _url(name: str, fields: Mapping[str, object], kind: EndpointType) -> str:
    """Empty where it is in a file."""
    if ("url" in fields) and ("urlFile" in fields):
        raise EndpointsInvalid(f"{name}.urlFile", "is there beside url", "write one of the two")
    if "urlFile" in fields:
        return ""
    written = fields.get("url", _PAGERDUTY if kind is EndpointType.PAGERDUTY else None)
    if written is None:
        raise EndpointsInvalid(f"{name}.url", "is missing", "write where it is, or urlFile where that is a secret")
    if not isinstance(written, str):
        raise EndpointsInvalid(f"{name}.url", "is not text", "put it in quotes")
    wrong = wrong_url(written)
    if wrong:
        raise EndpointsInvalid(f"{name}.url", wrong, "write for example http://prometheus.monitoring:9090")
    return written


def _proxy(name: str, written: object) -> str:
    if written is None:
        return ""
    wrong = wrong_url(written) if isinstance(written, str) else "is not text"
    if wrong:
        raise EndpointsInvalid(f"{name}.proxy", wrong, "write for example http://proxy.egress:3128")
    return str(written)


def wrong_url(text: str) -> str:
    """What is wrong with a URL; it is not repeated, since it may be a secret."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return "is no URL"
    if not usable or any(character.isspace() for character in text):
        return "is no http or https URL"
    if parts.username is not None or parts.password is not None:
        return "holds a password; headerFiles keep it out of sight"
    if parts.fragment:
        return "has a part behind #, which is sent to nobody"
    return ""


def _namespaces(name: str, written: object) -> frozenset[str] | None:
    if written is None:
        return None
    if not isinstance(written, list) or not all(isinstance(each, str) and each for each in written):
        raise EndpointsInvalid(f"{name}.namespaces", "is no list of names", "list namespaces, or leave it out for all")
    return frozenset(written)


def _path(fields: Mapping[str, object], place: str) -> Path | None:
    written = fields.get(place.rpartition(".")[2])
    return None if written is None else _as_path(written, place)


def _as_path(written: object, place: str) -> Path:
    if not isinstance(written, str) or not written.startswith("/"):
        raise EndpointsInvalid(place, "is no absolute path of a file", "write for example /etc/modelcanary/secrets/x")
    return Path(written)


def _mapping(value: object, place: str, remedy: str) -> dict[str, object]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise EndpointsInvalid(place, "is not a mapping of names", remedy)
    return value
