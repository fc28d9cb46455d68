"""What the gate raises. Callers map these to exit codes, HTTP answers and conditions."""


class GateError(Exception):
    """Base of every error that the gate raises."""


class SpecError(GateError):
    """A specification cannot be used; names the field, what is wrong with it and what would be right."""

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        super().__init__(f"{field}: {problem}; {remedy}")
        self.field = field
        self.problem = problem
        self.remedy = remedy


class DataError(GateError):
    """A value among the data cannot be used: a probability, a label, a block of evidence.

    `row` counts from 0 within the array that was passed; a caller that read a file adds its own offset and
    tells its user `problem`.
    """

    def __init__(self, problem: str, *, row: int | None = None) -> None:
        super().__init__(problem if row is None else f"row {row}: {problem}")
        self.problem = problem
        self.row = row


class NonFiniteError(DataError):
    """The value is NaN or infinite: counted by a guard of its own, never averaged."""
