"""What the sidecar counts on the live path, read from its `/metrics`. Called by `run` for its display."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

from modelcanary_cli.view import Users

_REQUESTS = "modelcanary_sidecar_requests"
_DROPPED = "modelcanary_sidecar_dropped"


def read_users(url: str) -> Users:
    """Unknown rather than an error: the display can do without."""
    try:
        answer = httpx.get(url, timeout=2.0)
    except httpx.HTTPError:
        return Users()
    if answer.status_code != httpx.codes.OK:
        return Users()
    requests: int | None = None
    dropped: dict[str, int] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if family.name == _REQUESTS and sample.name.endswith("_total"):
                requests = (requests or 0) + int(sample.value)
            elif family.name == _DROPPED and sample.name.endswith("_total"):
                reason = sample.labels.get("reason", "unknown")
                dropped[reason] = dropped.get(reason, 0) + int(sample.value)
    return Users(requests, dropped)
