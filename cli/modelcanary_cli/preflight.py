"""What is tried before anything is started, so that a wrong option costs a second and not an hour.

Called by `run`. What stops a run raises InputError; what only makes a verdict unlikely is a warning.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import httpx

from modelcanary_cli.addresses import Address
from modelcanary_cli.errors import InputError
from modelcanary_cli.instruct import ignored, unsupported
from modelcanary_cli.metrics import endpoint_missing
from modelcanary_cli.specs import LoadedSpec
from modelcanary_gate.parse import to_reading
from modelcanary_gate.vocabulary import Role
from modelcanary_sidecar.decoding import Reader, ReadingError

_LIMIT = 3.0


def check_spec(loaded: LoadedSpec, endpoints: Mapping[str, str]) -> list[str]:
    """Warnings about what `run` leaves aside. Raises InputError for what it cannot leave aside."""
    field = unsupported(loaded.spec)
    if field is not None:
        raise InputError(
            loaded.source,
            f"{field} is not supported by `run`, and leaving it aside would change the verdict",
            "remove it from the specification for this run",
        )
    missing = endpoint_missing(loaded.spec, endpoints)
    if missing is not None:
        field, name = missing
        raise InputError(
            loaded.source,
            f"{field}: nothing says where {name} is",
            f"give its Prometheus: --endpoint {name}=http://127.0.0.1:9090",
        )
    try:
        for role in Role if not loaded.spec.model.generates else ():
            Reader(to_reading(loaded.spec), role, loaded.spec.mirror.limits.maxBodyBytes)
    except ReadingError as error:  # what only the scorer can tell: a JMESPath expression that is none
        raise InputError(loaded.source, f"spec.{error}", "correct the field") from error
    left_aside = ignored(loaded.spec)
    if not left_aside:
        return []
    fields = ", ".join(f"spec.{name}" for name in left_aside)
    return [f"left aside, because only a cluster can do it: {fields}"]


def check_feedback(address: Address) -> None:
    """The ledger of a run does not know its callers, and a label decides."""
    if not address.loopback:
        raise InputError(
            "--feedback",
            f"{address} can be reached from other machines, and anyone could send labels",
            "use 127.0.0.1, with a proxy in front that knows who may send",
        )


def check_report(path: Path | None) -> None:
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise InputError("--report", f"{path} cannot be written", "name a file in a folder that exists")


def check_baseline(url: str) -> None:
    """Any HTTP answer will do: which paths exist is the model's own."""
    problem = unreachable(url)
    if problem is not None:
        raise InputError(
            "--baseline", f"{url} {problem}", "start the model that serves users first, and check host and port"
        )


def check_candidate(url: str) -> list[str]:
    """A candidate that fails is what a run may find out, so it is a warning."""
    problem = unreachable(url)
    if problem is None:
        return []
    return [f"the candidate {url} {problem}: until it answers, each mirrored request counts as its error"]


def unreachable(url: str) -> str | None:
    """Why nothing at that URL speaks HTTP; None when something does."""
    try:
        httpx.get(url + "/", timeout=_LIMIT)
    except httpx.ConnectError as error:
        return f"cannot be reached ({_reason(error)})"
    except httpx.TimeoutException:
        return f"does not answer within {_LIMIT:.0f} s"
    except httpx.HTTPError as error:
        return f"does not answer in HTTP ({_reason(error)})"
    return None


def _reason(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return os.strerror(cause.errno).lower()
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__
