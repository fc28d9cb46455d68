"""Gives sidecars the authorities that the ledger's certificate may be of: a ConfigMap in each canary's namespace.

Called by `reconcile` before it looks. The ConfigMap belongs to all ModelCanaries of its namespace and goes with the
last; one that is there already, such as the chart's in the release's namespace, stays its maker's. What is given is
read from a file that may be replaced at any time. It must not know phases.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from modelcanary_operator import facts, names
from modelcanary_operator.api import CONFIG_MAPS, Api, Object
from modelcanary_operator.errors import NotFound, Refused, SettingsError
from modelcanary_operator.manifests import Owner
from modelcanary_operator.workqueue import Key

_log = logging.getLogger(__name__)

FILE = "ca.crt"
#: Seconds after which it is looked whether somebody has changed or deleted it.
_AGAIN = 60.0
_MOST = 512 * 1024  # a ConfigMap holds a mebibyte


class Authority:
    def __init__(self, api: Api, path: Path | None, clock: Callable[[], float]) -> None:
        self._api = api
        self._path = path
        self._clock = clock
        self._kept: dict[Key, tuple[str, str, float]] = {}  # for which uid, what is there, and when that was seen
        self._text = ""
        self._trouble = ""

    async def keep(self, owner: Owner) -> None:
        """One write at most. Raises ApiError but for a refusal: what serves users does not wait for it."""
        text = self._read()
        if not text:
            return
        key, now = Key(owner.namespace, owner.name), self._clock()
        uid, known, seen = self._kept.get(key, ("", "", 0.0))
        if (uid, known) == (owner.uid, text) and now - seen < _AGAIN:
            return
        try:
            await self._write(owner, text)
        except Refused as error:
            _log.error("%s/%s: its sidecars cannot know the ledger: %s", owner.namespace, owner.name, error)
        self._kept[key] = owner.uid, text, now

    def forget(self, key: Key) -> None:
        self._kept.pop(key, None)

    async def _write(self, owner: Owner, text: str) -> None:
        reference = {**owner.reference(), "controller": False}
        built: Object = {
            "apiVersion": CONFIG_MAPS.api_version,
            "kind": CONFIG_MAPS.kind,
            "metadata": {
                "name": names.AUTHORITY,
                "namespace": owner.namespace,
                "labels": {names.ROLE: names.AUTHORITY},
                "ownerReferences": [reference],
            },
            "data": {FILE: text},
        }
        try:
            live = await self._api.get(CONFIG_MAPS, owner.namespace, names.AUTHORITY)
        except NotFound:
            await self._api.create(CONFIG_MAPS, owner.namespace, built)
            return
        owners = live["metadata"].get("ownerReferences") or []
        ours = facts.label(live, names.ROLE) == names.AUTHORITY
        # With an owner of ours, somebody else's would be collected with our last ModelCanary.
        belongs = not ours or any(item["uid"] == owner.uid for item in owners)
        if belongs and (live.get("data") or {}).get(FILE) == text:
            return
        metadata: Object = {"resourceVersion": live["metadata"]["resourceVersion"]}
        if not belongs:
            metadata["ownerReferences"] = [*owners, reference]
        patch = {"metadata": metadata, "data": built["data"]}
        await self._api.merge(CONFIG_MAPS, owner.namespace, names.AUTHORITY, patch)

    def _read(self) -> str:
        """As the file has it; while it cannot be used, as it was before."""
        if self._path is None:
            return ""
        try:
            self._text = read_authorities(self._path)
        except SettingsError as error:
            if str(error) != self._trouble:
                _log.error("sidecars go on with the authorities before: %s", error)
            self._trouble = str(error)
        else:
            self._trouble = ""
        return self._text


def read_authorities(path: Path) -> str:
    """The file's certificates. Raises SettingsError: above all, no key is ever given to others."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--ledger-ca {path}: {error}; name a readable file") from error
    if "-----BEGIN CERTIFICATE-----" not in text or "PRIVATE KEY" in text or len(text) > _MOST:
        raise SettingsError(f"--ledger-ca {path}: it is no list of certificates (PEM); name one without keys")
    return text
