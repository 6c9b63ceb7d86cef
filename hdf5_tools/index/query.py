"""The query language: `exposure > 500 ms and sample = "MgFe*" and not instrument ~ "*test*"`."""

import functools
import re
from decimal import Decimal

from datamgr.errors import InvalidError
from hdf5_tools.index import quantities
from hdf5_tools.index.conditions import All, AnyOf, Compare, Has, Node, Not, Pattern

FIELDS = ("path", "file", "kind", "dtype", "shape", "ndim")


_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\d.])"
# Not `b` in `a = 1 b = 2`, where an `and` was forgotten.
_UNIT = r"""(?:(?!(?i:and|or|not|has)\b)[^\W\d_][^\s(),"'<>=!~]*+|[°%]\w*+|"[^"]*")(?!\s*[=<>!~])"""
_WORD = r"[^\W\d][\w.:/-]*"
# An attribute and what it is compared with, at once; the parts of anything else by _TOKEN.
_COMPARISON = re.compile(
    rf"""\s*(?!(?i:and|or|not|in|has|true|false)\b)
    (?P<name>{_WORD})\s*(?P<operator><=|>=|!=|=|<|>)\s*
    (?:"(?P<text>[^"\\]*)"|(?P<number>{_NUMBER})(?:\s*(?P<unit>{_UNIT}))?)\s*""",
    re.VERBOSE,
)
_QUANTITY = re.compile(rf"({_NUMBER})\s*({_UNIT})?")
_TOKEN = re.compile(
    rf"""\s*(?:
    (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<number>{_NUMBER}(?:\s*{_UNIT})?)
    |(?P<operator><=|>=|!=|!~|=|<|>|~)
    |(?P<mark>[(),])
    |(?P<quoted>`[^`]+`)
    |(?P<word>@?{_WORD})
    )""",
    re.VERBOSE,
)
_KEYWORDS = ("and", "or", "not", "in", "has", "true", "false")
_DEEPEST = 100  # brackets in each other
_LARGEST = 400  # power of ten


@functools.lru_cache(1024)
def parse(text: str) -> Node:
    """What a query asks for.

    Raises:
        InvalidError: it cannot be understood; the message says where.
    """
    alone = _COMPARISON.fullmatch(text)
    return _Parser(text).parse() if alone is None else _compared(alone)


def _compared(match: re.Match[str]) -> Node:
    query, at = match.string, match.start("name")
    name, operator, text, number, unit = match.groups()
    if number is None:
        # By tuple: half the time, where it is a tenth of that of a small answer.
        pattern = tuple.__new__(Pattern, (tuple(_encoded(text).split(b"*")), False))
        if operator == "=":
            return tuple.__new__(Compare, (_encoded(name), "=", pattern, False, None))
        return _node(query, at, _encoded(name), operator, pattern)
    value = _number(query, number, match.start("number"))
    return _node(query, at, _encoded(name), operator, value, False, _unit(unit))


def _node(
    query: str, at: int, name: bytes, operator: str, value: Pattern | Decimal,
    is_field: bool = False, unit: str | None = None,
) -> Node:  # fmt: skip
    if operator in ("=", "~"):
        return Compare(name, "=", value, is_field, unit)
    if operator in ("!=", "!~"):
        other = Not(Compare(name, "=", value, is_field, unit))
        return other if is_field else All((Has(name, unit), other))
    if isinstance(value, Pattern) and len(value.parts) > 1:
        raise _error(query, at, f"{operator} compares with a text without *")
    return Compare(name, operator, value, is_field, unit)


def _number(query: str, word: str, at: int) -> Decimal:
    value = Decimal(word)
    if abs(value.adjusted()) > _LARGEST:
        raise _error(query, at, "no number is stored that large or small")
    return value


def _unit(word: str | None) -> str | None:
    if word is None:
        return None
    unit = word.strip('"')
    quantities.require(unit)
    return unit


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _error(query: str, at: int, what: str) -> InvalidError:
    rest = query[at:].strip() or "the end"
    return InvalidError(f"query: at {rest[:40]!r}: {what}")


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text = text.rstrip()
        self._tokens: list[tuple[str, str, int]] = []
        self._comparisons: dict[int, Node] = {}
        self._at = 0
        self._depth = 0
        position, kind, word = 0, "", ""
        while position < len(text):
            whole = None if word == "has" else _COMPARISON.match(text, position)
            if whole is not None:
                self._comparisons[len(self._tokens)] = _compared(whole)
                kind, word, position = "comparison", "", whole.end()
                self._tokens.append((kind, word, whole.start("name")))
                continue
            match = _TOKEN.match(text, position)
            if match is None:
                raise _error(text, position, "this is not understood")
            kind = str(match.lastgroup)
            word, start = match.group(kind), match.start(kind)
            if kind == "word" and word.lower() in _KEYWORDS:
                kind, word = "keyword", word.lower()
            self._tokens.append((kind, word, start))
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
        if self._take("comparison", ""):
            return self._comparisons[self._at - 1]
        return self._comparison()

    def _comparison(self) -> Node:
        name, is_field = self._name()
        if self._take("keyword", "in"):
            if not self._take("mark", "("):
                raise self._error("after `in` a list in ( ) is expected")
            terms = [self._equal(name, is_field)]
            while self._take("mark", ","):
                terms.append(self._equal(name, is_field))
            if not self._take("mark", ")"):
                raise self._error("the list ends with )")
            return AnyOf(tuple(terms))
        kind, operator, _ = self._next()
        if kind != "operator":
            self._at -= 1
            raise self._error("after a name =, !=, <, <=, >, >=, ~, !~ or `in` is expected")
        at = self._position()
        value, unit = self._value("~" in operator, is_field)
        return _node(self._text, at, name, operator, value, is_field, unit)

    def _equal(self, name: bytes, is_field: bool) -> Compare:
        value, unit = self._value(False, is_field)
        return Compare(name, "=", value, is_field, unit)

    def _name(self) -> tuple[bytes, bool]:
        kind, word, _ = self._next()
        if kind == "quoted":
            return _encoded(word[1:-1]), False
        if kind != "word":
            self._at -= 1
            raise self._error("the name of an attribute is expected; odd ones in ` `")
        if not word.startswith("@"):
            return _encoded(word), False
        if word[1:] not in FIELDS:
            self._at -= 1
            raise self._error(f"there are {', '.join('@' + name for name in FIELDS)}")
        return word[1:].encode(), True

    def _value(self, folds: bool, is_field: bool) -> tuple[Pattern | Decimal, str | None]:
        kind, word, position = self._next()
        if kind == "text":
            parts = _parts(word[1:-1])
            return Pattern(tuple(p.lower() for p in parts) if folds else parts, folds), None
        if kind == "number" and not folds:
            quantity = _QUANTITY.fullmatch(word)
            number, unit = quantity.groups() if quantity is not None else (word, None)
            if unit is not None and is_field:
                raise _error(self._text, position, "what begins with @ has no unit")
            return _number(self._text, number, position), _unit(unit)
        if kind == "keyword" and word in ("true", "false") and not folds:
            return Decimal(word == "true"), None
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

    def _position(self) -> int:
        known = self._at < len(self._tokens)
        return self._tokens[self._at][2] if known else len(self._text)

    def _error(self, what: str) -> InvalidError:
        return _error(self._text, self._position(), what)


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
    return tuple(_encoded(part) for part in parts)
