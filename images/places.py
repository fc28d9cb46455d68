"""Where images are made and kept, and what the environment says about it. The environment is read here only."""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
#: Of every file in an image, where SOURCE_DATE_EPOCH does not say it: the same as hatchling's for the wheel.
_EPOCH = "1580601600"
#: Where systems keep the certificates that they trust, if they trust some of their own.
_CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")


@dataclass(frozen=True, slots=True)
class Places:
    cache: Path  # archives, a base and layers; outside of the tree
    base: str | None  # the image that others are built on, where the user names one
    epoch: int
    certificates: Path | None

    @staticmethod
    def of_environment() -> "Places":
        cache = os.environ.get("MODELCANARY_CACHE") or Path.home() / ".cache" / "modelcanary"
        named = os.environ.get("SSL_CERT_FILE")
        known = (Path(path) for path in ((named,) if named else ()) + _CERTIFICATES)
        return Places(
            cache=Path(cache) / "images",
            base=os.environ.get("MODELCANARY_IMAGE_BASE") or None,
            epoch=int(os.environ.get("SOURCE_DATE_EPOCH") or _EPOCH),
            certificates=next((path for path in known if path.is_file()), None),
        )


def project() -> dict[str, Any]:
    """What pyproject.toml says of it."""
    with (PROJECT / "pyproject.toml").open("rb") as file:
        found: dict[str, Any] = tomllib.load(file)["project"]
    return found
