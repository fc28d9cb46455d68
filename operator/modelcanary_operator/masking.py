"""What a container said last, fit to be shown: short, printable, and without what looks like a secret. Pure.

Called by `facts`. It goes into a condition, an Event and a report, which more people may read than the pod's log.
"""

import re

_LONGEST = 400
_HIDDEN = "***"
_NAMED = r"(?:password|passwd|pwd|secret|token|api[-_]?key|access[-_]?key|credentials?|authorization|signature|sig)"
_SECRETS = (
    # A URL's user and password.
    (re.compile(r"(?<=://)[^\s/@]+@"), f"{_HIDDEN}@"),
    (re.compile(r"\b(Bearer|Basic)\s+[^\s,;\"']+", re.IGNORECASE), rf"\1 {_HIDDEN}"),
    # name=value, "name": "value", --name value, also where the name is the end of a longer one.
    (re.compile(rf"({_NAMED}[\"']?\s*[:=]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&}}]+)", re.IGNORECASE), rf"\1{_HIDDEN}"),
    (re.compile(rf"(--[-\w]*{_NAMED}\s+)[^\s]+", re.IGNORECASE), rf"\1{_HIDDEN}"),
    # AWS's, GitHub's, Slack's and Google's keys, and JSON Web Tokens, by how they begin.
    (re.compile(r"\b(?:AKIA|ASIA|gh[pousr]_|xox[abprs]-|AIza|hf_|sk-|eyJ)[-\w./+]{12,}"), _HIDDEN),
)


def last_words(text: str) -> str:
    """The end of a termination message on one line; empty where there is none."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text[-4096:]).split())
    for pattern, hidden in _SECRETS:
        line = pattern.sub(hidden, line)
    return line if len(line) <= _LONGEST else "…" + line[1 - _LONGEST :]
