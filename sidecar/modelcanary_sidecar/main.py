"""`modelcanary-sidecar`: reads the settings and has `supervisor` start and watch the processes of a sidecar."""

import logging
import os
import sys

from modelcanary_sidecar.errors import MissingProgram, SettingsError
from modelcanary_sidecar.settings import read_settings
from modelcanary_sidecar.supervisor import Supervisor

_CANNOT_START = 3


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s modelcanary-sidecar: %(message)s")
    try:
        supervisor = Supervisor(read_settings(sys.argv[1:], os.environ))
    except (SettingsError, MissingProgram) as error:
        print(f"modelcanary-sidecar: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(_CANNOT_START)
    sys.exit(supervisor.run())


if __name__ == "__main__":
    main()
