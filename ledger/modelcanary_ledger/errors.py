"""What the ledger refuses, and how HTTP says so: the class is the status, the fields name the remedy."""


class LedgerError(Exception):
    """Base of every error that the ledger raises. `status` is its HTTP status."""

    status = 500
    title = "The ledger failed"
    retry_after: float | None = None  # seconds, where trying again helps

    def __init__(self, detail: str, *, field: str | None = None, row: int | None = None, remedy: str = ""):
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.row = row
        self.remedy = remedy


class BadRequest(LedgerError):
    status = 400
    title = "The request cannot be used"


class Unauthorized(LedgerError):
    status = 401
    title = "The caller is not known"


class Forbidden(LedgerError):
    status = 403
    title = "The caller may not do this"


class NotFound(LedgerError):
    status = 404
    title = "There is no such thing"


class TooSlow(LedgerError):
    status = 408
    title = "The request did not come whole in time"


class StaleEpoch(LedgerError):
    """Another leader has taken over since."""

    status = 409
    title = "A newer leader has written"


class TooLarge(LedgerError):
    status = 413
    title = "The request is too large"


class Unprocessable(LedgerError):
    """Well formed, and yet a value in it cannot be used."""

    status = 422
    title = "A value cannot be used"


class TooMany(LedgerError):
    """More labels than the sender's quota; nothing of the request was taken."""

    status = 429
    title = "The sender's quota is used up"

    def __init__(self, detail: str, *, retry_after: float, remedy: str):
        super().__init__(detail, remedy=remedy)
        self.retry_after = retry_after


class Busy(LedgerError):
    """More is waiting to be recorded than the ledger holds in memory; try again."""

    status = 503
    title = "The ledger is busy"
    retry_after = 1.0


class StoreError(LedgerError):
    """The server that keeps everything cannot be used at the moment; nothing of the request was recorded."""

    status = 503
    title = "The store cannot be used at the moment"
    retry_after = 1.0


class StoreConflict(StoreError):
    """Another ledger changed the same at the same time; nothing was done, and it can be done again."""


class NotReviewed(LedgerError):
    """Whose the token is cannot be found out now: it is neither let in nor refused."""

    status = 503
    title = "The caller cannot be known at the moment"
    retry_after = 2.0


class DiskFull(LedgerError):
    """Nothing of the request was recorded."""

    status = 507
    title = "The disk is full"
    retry_after = 1.0


class SettingsError(LedgerError):
    """A command line option cannot be used; the process does not start."""
