"""What the chart lets the operator do, held against what it does: a call without its right fails the test."""

import builtins
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from modelcanary_operator.api import Api, Kind, Object

_HELPERS = Path(__file__).parents[2] / "charts/modelcanary/templates/_helpers.tpl"
_BLOCK = re.compile(r'define "modelcanary.operatorRules" -}}\n(.*?)\n{{- end }}', re.DOTALL)

#: (API group, resource or resource/subresource, verb).
Right = tuple[str, str, str]


def rights(rules: list[Any]) -> Iterator[Right]:
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    yield group, resource, verb


def chart_rules() -> list[Any]:
    """As they stand in the chart: there is no template in them."""
    found = _BLOCK.search(_HELPERS.read_text())
    assert found is not None, "the chart's rules have moved"
    rules: list[Any] = yaml.safe_load(found[1])
    return rules


class Granted:
    """An API that answers what the chart lets the operator ask."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._rights = frozenset(rights(chart_rules()))
        #: Of rights that are given for certain objects: their names.
        self._named = {
            right: frozenset(rule["resourceNames"])
            for rule in chart_rules()
            if "resourceNames" in rule
            for right in rights([rule])
        }
        self.used: set[Right] = set()

    def _check(self, kind: Kind, verb: str, subresource: str = "", name: str = "") -> None:
        group = kind.api_version.rpartition("/")[0]
        right = group, "/".join([kind.plural, *([subresource] if subresource else [])]), verb
        assert right in self._rights, f"the chart does not let the operator {verb} {right[1]} of {group or 'v1'}"
        if right in self._named:
            assert name in self._named[right], f"the chart does not let the operator {verb} {right[1]} {name}"
        self.used.add(right)

    async def get(self, kind: Kind, namespace: str, name: str) -> Object:
        self._check(kind, "get", name=name)
        return await self._api.get(kind, namespace, name)

    async def list(self, kind: Kind, namespace: str, labels: Mapping[str, str] | None = None) -> list[Object]:
        self._check(kind, "list")
        return await self._api.list(kind, namespace, labels)

    async def list_metadata(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> "builtins.list[Object]":
        self._check(kind, "list")
        return await self._api.list_metadata(kind, namespace, labels)

    async def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        self._check(kind, "create")
        return await self._api.create(kind, namespace, body)

    async def replace(self, kind: Kind, namespace: str, name: str, body: Object, subresource: str = "") -> Object:
        self._check(kind, "update", subresource, name)
        return await self._api.replace(kind, namespace, name, body, subresource)

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Object) -> Object:
        self._check(kind, "patch", name=name)
        return await self._api.merge(kind, namespace, name, patch)

    async def delete(self, kind: Kind, namespace: str, name: str, version: str | None = None) -> None:
        self._check(kind, "delete", name=name)
        await self._api.delete(kind, namespace, name, version)
