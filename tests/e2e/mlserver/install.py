"""Runs inside of the image's build: installs MLServer as it is pinned, and trains the models. Standard library only."""

import subprocess
import sys
from pathlib import Path

_BUILD, _MODELS = Path("/build"), Path("/opt/mlserver/models")
_CERTIFICATES = Path("/run/secrets/certificates")


def main() -> None:
    trusted = ["--cert", str(_CERTIFICATES)] if _CERTIFICATES.is_file() and _CERTIFICATES.stat().st_size else []
    options = ["--quiet", "--no-cache-dir", "--only-binary=:all:", "--disable-pip-version-check", *trusted]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "-r", str(_BUILD / "mlserver.txt")], check=True)
    _MODELS.mkdir()
    subprocess.run([sys.executable, str(_BUILD / "train.py"), str(_MODELS)], check=True)


if __name__ == "__main__":
    main()
