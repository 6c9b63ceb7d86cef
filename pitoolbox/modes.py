"""Which modes a request may name: what the group may do, and a directory's setgid.

Source: chmod(1) of coreutils for the notation and its meaning.
"""

import re

from datamgr import display
from datamgr.errors import InvalidError

Clause = tuple[str, str]  # an operator and the letters after it

# What `share` does to the mode: the group reads all, enters directories and hands itself on.
SHARE: tuple[Clause, ...] = (("+", "rX"), ("+", "s"))

_HOW = "write it like g+rX, g=rx, g-w, g+s or, as the group's digit, 5 or 050"
_SYMBOLIC = re.compile(r"([ugoa]*)((?:[-+=][^-+=]*)+)")
_OCTAL = re.compile(r"([0-7])|([02]?)0([0-7])0")


def parse(text: str) -> tuple[Clause, ...]:
    """The clauses of a mode such as `g+rX,g-w`, `g=rx`, `5`, `050` or `2050`.

    Raises:
        InvalidError: it is no mode, or would touch other bits than the group's.
    """
    if text[:1].isdigit():
        return _octal(text)
    clauses: list[Clause] = []
    for part in text.split(","):
        found = _SYMBOLIC.fullmatch(part)
        if found is None:
            raise _invalid(text, "is no mode")
        if not found[1] or set(found[1]) != {"g"}:
            raise _invalid(text, "is not about the group alone")
        clauses += [_clause(text, action) for action in re.findall(r"[-+=][^-+=]*", found[2])]
    return tuple(clauses)


def _clause(text: str, action: str) -> Clause:
    operator, letters = action[0], action[1:]
    if "t" in letters:
        raise _invalid(text, "names the sticky bit, which is not the group's")
    # Source: chmod(1): rights are of rwxXst, or are copied from one of u, g and o.
    if not set(letters) <= set("rwxXs") and letters not in ("u", "g", "o"):
        raise _invalid(text, "is no mode")
    if not letters and operator != "=":
        raise _invalid(text, f"says nothing after {operator}")
    return operator, letters


def _octal(text: str) -> tuple[Clause, ...]:
    found = _OCTAL.fullmatch(text)
    if found is None:
        is_mode = re.fullmatch(r"[0-7]{1,5}", text)
        raise _invalid(text, "is not about the group alone" if is_mode else "is no mode")
    bits = int(found[1] or found[3])
    letters = "".join(letter for letter, bit in zip("rwx", (4, 2, 1), strict=True) if bits & bit)
    return (("=", letters), *((("+", "s"),) if found[2] == "2" else ()))


def _invalid(text: str, what: str) -> InvalidError:
    return InvalidError(f"mode {display.printable(text)!r} {what}; {_HOW}")
