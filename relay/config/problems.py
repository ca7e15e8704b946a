"""Mistakes in the configuration: collecting all of them, and saying each one so that it can be mended at once.

A report takes mistakes in any order and gives them back in the order of the file, each with its place, its key, the
line it stands on, a caret below it and, where there is one, the mend. No value of a secret is ever part of it: the
lines shown have the values of everything that looks like a secret's key starred out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from relay.config.stars import masked

Loc = tuple[str | int, ...]
"""Where a value is in the document: map keys and list indexes from the root."""

_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # what YAML counts as one
_COMMENT = re.compile(r"(?:^|\s)#")
_SHORTEST = 4  # characters; shorter values are part of ordinary words
_WIDEST = 160  # columns shown of one line


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the file: line and column count from 0, `end` is a column on the same line."""

    line: int
    column: int
    end: int


@dataclass(frozen=True, slots=True)
class Marks:
    """Where a value stands, and its key if it has one."""

    value: Span
    key: Span | None = None


@dataclass(frozen=True, slots=True)
class _Problem:
    """`mend` may be several lines."""

    span: Span | None
    key: str
    text: str
    mend: str


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The known word that is nearest to this one, or ""."""
    folded = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), folded, 1, cutoff)
    return folded[near[0]] if near else ""


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`did you mean "x"?` for the nearest known word, or ""."""
    near = nearest(word, known, cutoff)
    return f'did you mean "{near}"?' if near else ""


def dotted(loc: Loc) -> str:
    """The key path as it is printed: `providers.ses.limits.rate`, `routes.0.via`."""
    return ".".join(str(part) for part in loc)


@dataclass
class Report:
    """The mistakes and warnings of one file. `places` maps a location in the document to its marks."""

    name: str
    source: str = ""
    places: Mapping[Loc, Marks] = field(default_factory=dict)
    silenced: set[Loc] = field(default_factory=set)  # values that could not be had: nothing more is said about them
    resolved: dict[Loc, tuple[str, str]] = field(default_factory=dict)  # values from references: (what was found, what is written)
    _problems: list[_Problem] = field(default_factory=list)
    _warnings: list[_Problem] = field(default_factory=list)
    _said: set[tuple[Loc, str]] = field(default_factory=set)

    def add(self, loc: Loc, text: str, mend: str = "", *, at_key: bool = False) -> None:
        """A mistake in the value at `loc`, or in its key. What follows from a mistake already told is left out."""
        if any(loc[: len(gone)] == gone for gone in self.silenced) or (loc, text) in self._said:
            return
        text, mend = self._without_values(loc, text, mend, at_key=at_key)
        self._said.add((loc, text))
        self._problems.append(_Problem(self._span(loc, at_key), dotted(loc), text, mend))

    def add_at(self, span: Span | None, text: str, mend: str = "") -> None:
        """A mistake at a place of the file that has no key."""
        self._problems.append(_Problem(span, "", text, mend))

    def warn(self, loc: Loc, text: str, mend: str = "") -> None:
        """Something that is allowed and worth knowing."""
        text, mend = self._without_values(loc, text, mend, at_key=True)
        self._warnings.append(_Problem(self._span(loc, False), dotted(loc), text, mend))

    def _without_values(self, loc: Loc, text: str, mend: str, *, at_key: bool) -> tuple[str, str]:
        """What a reference stood for is never told: it may be a secret that was put in the wrong place."""
        source = next((self.resolved[loc[:size]][1] for size in range(len(loc), 0, -1) if loc[:size] in self.resolved), "")
        if source and not at_key:
            return f"the value of {source} cannot be used here", "look for a blank or another stray character in it"
        for value, written in self.resolved.values():
            if len(value) >= _SHORTEST and (value in text or value in mend):
                text, mend = text.replace(value, written), mend.replace(value, written)
        return text, mend

    def _span(self, loc: Loc, at_key: bool) -> Span | None:
        marks = self.places.get(loc)
        if marks:
            return marks.key if at_key and marks.key else marks.value
        if not loc:
            return None
        # Not in the file: a missing key is shown at what it is missing from, an item of a list written as one value at that value.
        return self._span(loc[:-1], at_key=not isinstance(loc[-1], int))

    @property
    def problems(self) -> tuple[str, ...]:
        """Every mistake, rendered, in the order of the file."""
        lines = _LINE_END.split(self.source)
        stars = masked(lines)
        return tuple(_render(self.name, problem, lines, stars) for problem in sorted(self._problems, key=_place))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Every warning in one line each, in the order of the file."""
        ordered = sorted(self._warnings, key=_place)
        return tuple(_headline(self.name, problem) + (f" ({problem.mend})" if problem.mend else "") for problem in ordered)


def _place(problem: _Problem) -> tuple[int, int]:
    return (problem.span.line, problem.span.column) if problem.span else (-1, 0)


def _headline(name: str, problem: _Problem) -> str:
    place = f"{name}:{problem.span.line + 1}:{problem.span.column + 1}" if problem.span else name
    return ": ".join(part for part in (place, problem.key, problem.text) if part)


def _render(name: str, problem: _Problem, lines: Sequence[str], stars: Sequence[str]) -> str:
    """A problem as it is printed. `stars` are the lines as they may be shown."""
    out = [_printable(_headline(name, problem))]
    margin = 4
    if problem.span and problem.span.line < len(lines):
        number, column, end = problem.span.line, problem.span.column, problem.span.end
        margin = max(4, len(str(number + 1)))
        left = max(0, column - _WIDEST // 2) if column > _WIDEST - 20 else 0
        above = _without_comment(lines[number - 1], stars[number - 1]) if number > 0 else ""
        if above:
            out.append(f"{number:>{margin}} | {_printable(above)[left : left + _WIDEST]}".rstrip())
        shown = _without_comment(lines[number], _with_what_is_told(problem, problem.span, lines[number], stars[number]), end)
        out.append(f"{number + 1:>{margin}} | {_printable(shown)[left : left + _WIDEST]}".rstrip())
        carets = "^" * max(1, min(end, left + _WIDEST) - column)
        out.append(f"{'':>{margin}} | {' ' * (column - left)}{carets}")
    out += [f"{'':>{margin}} = {_printable(line)}" for line in problem.mend.split("\n") if line]
    return "\n".join(out)


def _with_what_is_told(problem: _Problem, span: Span, line: str, stars: str) -> str:
    """The starred line, in which the value that the mistake itself quotes is readable: it is no secret, or it would not be quoted."""
    value = line[span.column : span.end]
    bare = value.strip("'\"")
    return f"{stars[: span.column]}{value}{stars[span.end :]}" if f'"{bare}"' in problem.text else stars


def _without_comment(line: str, stars: str, start: int = 0) -> str:
    """The starred line without its comment where stars stand in that. What is taken for a comment and is none is only left out."""
    found = _COMMENT.search(line, start)
    if found and stars[found.start() :] != line[found.start() :]:
        return stars[: found.start()].rstrip()
    return stars if stars.strip() else ""


def _printable(text: str) -> str:
    """One column for each character, whatever it is."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char == "\t" else "?" for char in text)
