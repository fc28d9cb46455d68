"""What the cluster's commands raise. Raised by `api`, and by commands that find nothing to do."""

from modelcanary_cli.errors import CliError, ExitCode


class ClusterError(CliError):
    """The API server did not answer, or not as it should: it may another time."""

    exit_code = ExitCode.UNAVAILABLE


class RefusedError(CliError):
    """The API server refuses, or there is nothing of that name: another time will not help."""


class NotFoundError(RefusedError):
    """There is no such object."""


class ForbiddenError(RefusedError):
    """The user may not."""
