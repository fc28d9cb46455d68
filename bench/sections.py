"""Parts of bench/RESULTS.md, each written anew by the benchmark whose it is. Every benchmark calls it in the end."""

from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"


def keep(name: str, text: str, path: Path = RESULTS) -> None:
    """Put the text in place of the part of that name, or behind all others."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    old = path.read_text() if path.exists() else "# Results\n"
    part = f"{begin}\n{text.strip()}\n{end}"
    if begin in old:
        new = old[: old.index(begin)] + part + old[old.index(end) + len(end) :]
    else:
        new = f"{old.rstrip()}\n\n{part}\n"
    path.write_text(new)
