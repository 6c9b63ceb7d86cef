"""What a query asks for, as a tree."""

from decimal import Decimal
from typing import NamedTuple


class Pattern(NamedTuple):
    """A text; between its parts stands anything. One part: the text itself.

    `folds`: the case of ASCII letters does not matter; then the parts are in lower case.
    """

    parts: tuple[bytes, ...]
    folds: bool = False

    def fits(self, text: bytes) -> bool:
        """Whether a text is like that; in a time that grows with its length only."""
        if self.folds:
            text = text.lower()
        if len(self.parts) == 1:
            return text == self.parts[0]
        first, *between, last = self.parts
        at, end = len(first), len(text) - len(last)
        if at > end or not text.startswith(first) or not text.endswith(last):
            return False
        for part in between:
            found = text.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True


class Compare(NamedTuple):
    """An attribute, or with `@` a property of the object, and what it is compared with."""

    name: bytes
    operator: str  # = < <= > >=
    value: Pattern | Decimal
    is_field: bool = False
    unit: str | None = None  # of the value, if it is a number and has one


class Has(NamedTuple):
    """The object has an attribute of this name; with a unit, one that this can be turned into."""

    name: bytes
    unit: str | None = None


class Not(NamedTuple):
    """The others."""

    term: "Node"


class All(NamedTuple):
    """Every term holds."""

    terms: tuple["Node", ...]


class AnyOf(NamedTuple):
    """At least one term holds."""

    terms: tuple["Node", ...]


Node = Compare | Has | Not | All | AnyOf
