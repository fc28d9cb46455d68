"""How ids and labels are columns. Ids are whatever clients send: as text, PostgreSQL would refuse some of them."""


def id_to(identifier: str) -> bytes:
    return identifier.encode("utf-8", "surrogatepass")


def id_of(column: bytes) -> str:
    return bytes(column).decode("utf-8", "surrogatepass")


def value_to(value: int | bytes) -> tuple[int | None, bytes | None]:
    """(class index, float64 per class): one of them is None."""
    return (None, value) if isinstance(value, bytes) else (value, None)


def value_of(hard: int | None, soft: bytes | None) -> int | bytes:
    return bytes(soft) if hard is None and soft is not None else int(hard or 0)
