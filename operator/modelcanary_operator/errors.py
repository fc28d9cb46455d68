"""What the operator raises. Whether to try again is the class, never the text."""


class OperatorError(Exception):
    """Base of every error that the operator raises."""


class SettingsError(OperatorError):
    """A command line option cannot be used; the process does not start."""


class EndpointsInvalid(SettingsError):
    """The list of endpoints cannot be used as it is."""

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        super().__init__(f"endpoints: {field} {problem}; {remedy}")


class EndpointFailed(OperatorError):
    """An endpoint did not answer, or not as it should; it may the next time. Its words hold no secret."""


class LeaseLost(OperatorError):
    """Another process may lead by now: this one ends."""


class ApiError(OperatorError):
    """The API server refused; `status` is its HTTP status, 0 where there was no answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}" if status else message)
        self.status = status


class NotFound(ApiError):
    """There is no such object."""


class Conflict(ApiError):
    """The object has changed since it was read, or is there already: look again."""


class Unavailable(ApiError):
    """No answer, or one that may be another next time. The write may have had its effect."""


class Refused(ApiError):
    """The API server will not take this, however often it is sent."""


class LedgerUnavailable(OperatorError):
    """The ledger did not answer, or not as it should."""


class LedgerRefused(OperatorError):
    """The ledger will not take this: another leader has written, or the request cannot be used."""
