"""The query language: `exposure_s > 0.5 and sample = "MgFe*" and not instrument ~ "*test*"`."""

import functools
import re
from dataclasses import dataclass
from fractions import Fraction

from datamgr.errors import InvalidError

FIELDS = ("path", "file", "kind", "dtype", "shape", "ndim")


@dataclass(frozen=True)
class Pattern:
    """A text; between its parts stands anything. One part: the text itself."""

    parts: tuple[bytes, ...]
    folds: bool = False  # the case of ASCII letters does not matter

    def regex(self) -> re.Pattern[bytes]:
        """Matches, by `fullmatch`, what the pattern does."""
        flags = re.DOTALL | (re.IGNORECASE if self.folds else 0)
        return re.compile(b".*".join(re.escape(part) for part in self.parts), flags)


@dataclass(frozen=True)
class Compare:
    """An attribute, or with `@` a property of the object, and what it is compared with."""

    name: bytes
    operator: str  # = < <= > >=
    value: Pattern | Fraction
    is_field: bool = False


@dataclass(frozen=True)
class Has:
    """The object has an attribute of this name."""

    name: bytes


@dataclass(frozen=True)
class Not:
    """The others."""

    term: "Node"


@dataclass(frozen=True)
class All:
    """Every term holds."""

    terms: tuple["Node", ...]


@dataclass(frozen=True)
class AnyOf:
    """At least one term holds."""

    terms: tuple["Node", ...]


Node = Compare | Has | Not | All | AnyOf

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w]))
    |(?P<operator><=|>=|!=|!~|=|<|>|~)
    |(?P<mark>[(),])
    |(?P<quoted>`[^`]+`)
    |(?P<word>@?[^\W\d][\w.:/-]*)
    )""",
    re.VERBOSE,
)
_KEYWORDS = ("and", "or", "not", "in", "has", "true", "false")
_DEEPEST = 100


@functools.lru_cache(1024)
def parse(text: str) -> Node:
    """What a query asks for.

    Raises:
        InvalidError: it cannot be understood; the message says where.
    """
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str, int]] = []
        self._at = 0
        self._depth = 0
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None:
                raise self._error("this is not understood", position)
            kind = str(match.lastgroup)
            word = match.group(kind)
            if kind == "word" and word.lower() in _KEYWORDS:
                kind, word = "keyword", word.lower()
            self._tokens.append((kind, word, match.start(match.lastgroup or 0)))
            position = match.end()

    def parse(self) -> Node:
        if not self._tokens:
            raise InvalidError('the query is empty; ask for example sample = "MgFe*"')
        node = self._either()
        if self._at < len(self._tokens):
            raise self._error("here `and`, `or` or the end is expected")
        return node

    def _either(self) -> Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error("the query is nested too deeply")
        terms = [self._both()]
        while self._take("keyword", "or"):
            terms.append(self._both())
        self._depth -= 1
        return terms[0] if len(terms) == 1 else AnyOf(tuple(terms))

    def _both(self) -> Node:
        terms = [self._term()]
        while self._take("keyword", "and"):
            terms.append(self._term())
        return terms[0] if len(terms) == 1 else All(tuple(terms))

    def _term(self) -> Node:
        negated = False
        while self._take("keyword", "not"):
            negated = not negated
        node = self._atom()
        return Not(node) if negated else node

    def _atom(self) -> Node:
        if self._take("mark", "("):
            node = self._either()
            if not self._take("mark", ")"):
                raise self._error("a closing ) is missing")
            return node
        if self._take("keyword", "has"):
            return Has(self._name()[0])
        return self._comparison()

    def _comparison(self) -> Node:
        name, is_field = self._name()
        if self._take("keyword", "in"):
            if not self._take("mark", "("):
                raise self._error("after `in` a list in ( ) is expected")
            terms = [Compare(name, "=", self._value(False), is_field)]
            while self._take("mark", ","):
                terms.append(Compare(name, "=", self._value(False), is_field))
            if not self._take("mark", ")"):
                raise self._error("the list ends with )")
            return AnyOf(tuple(terms))
        kind, operator, _ = self._next()
        if kind != "operator":
            self._at -= 1
            raise self._error("after a name =, !=, <, <=, >, >=, ~, !~ or `in` is expected")
        value = self._value("~" in operator)
        if operator in ("=", "~"):
            return Compare(name, "=", value, is_field)
        if operator in ("!=", "!~"):
            other = Not(Compare(name, "=", value, is_field))
            return other if is_field else All((Has(name), other))
        if isinstance(value, Pattern) and len(value.parts) > 1:
            raise self._error(f"{operator} compares with a text without *")
        return Compare(name, operator, value, is_field)

    def _name(self) -> tuple[bytes, bool]:
        kind, word, _ = self._next()
        if kind == "quoted":
            return word[1:-1].encode("utf-8", "surrogateescape"), False
        if kind != "word":
            self._at -= 1
            raise self._error("the name of an attribute is expected; odd ones in ` `")
        if not word.startswith("@"):
            return word.encode("utf-8", "surrogateescape"), False
        if word[1:] not in FIELDS:
            self._at -= 1
            raise self._error(f"there are {', '.join('@' + name for name in FIELDS)}")
        return word[1:].encode(), True

    def _value(self, folds: bool) -> Pattern | Fraction:
        kind, word, _ = self._next()
        if kind == "text":
            return Pattern(_parts(word[1:-1]), folds)
        if kind == "number" and not folds:
            if abs(int(word.lower().partition("e")[2] or 0)) > 400:
                self._at -= 1
                raise self._error("no number is stored that large or small")
            return Fraction(word)
        if kind == "keyword" and word in ("true", "false") and not folds:
            return Fraction(word == "true")
        self._at -= 1
        raise self._error(("" if folds else "a number or ") + 'a "text" is expected')

    def _next(self) -> tuple[str, str, int]:
        token = self._tokens[self._at] if self._at < len(self._tokens) else ("end", "", -1)
        self._at += 1
        return token

    def _take(self, kind: str, word: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at][:2] == (kind, word):
            self._at += 1
            return True
        return False

    def _error(self, what: str, position: int | None = None) -> InvalidError:
        if position is None:
            known = self._at < len(self._tokens)
            position = self._tokens[self._at][2] if known else len(self._text)
        rest = self._text[position:].strip() or "the end"
        return InvalidError(f"query: at {rest[:40]!r}: {what}")


def _parts(text: str) -> tuple[bytes, ...]:
    """Split at stars; a backslash takes away what the next character means."""
    parts: list[str] = []
    current: list[str] = []
    characters = iter(text)
    for character in characters:
        if character == "*":
            parts.append("".join(current))
            current = []
        else:
            current.append(next(characters, "\\") if character == "\\" else character)
    parts.append("".join(current))
    return tuple(part.encode("utf-8", "surrogateescape") for part in parts)
