"""Reading YAML with the place of every key and value.

What is read is YAML with the scalars of YAML 1.2's core schema, made stricter where a configuration gains from it: only
`true`, `false`, `null`, `~` and plain whole numbers are not text (so `no`, `012`, `12:30` and `1.10` are what they look
like); a key may stand only once; tags, anchors and aliases are refused. Nothing is constructed: no YAML text can make
this module run anything or grow without bound.

Every mistake goes to the report; what could be read is returned beside it.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from relay.config.problems import Loc, Marks, Report, Span
from relay.config.stars import looks_secret

LARGEST = 1024 * 1024  # octets of a file
_DEEPEST = 20
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_CONSTANTS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TAB = re.compile(r" *\t\s*\S", re.ASCII)
_CONFLICT = re.compile(r"(?m)^(?:<{7}|>{7}) ")
_SIMPLE_KEY = re.compile(r"[\w.-]+")
_PLAIN = "plain"
_ALIAS = "alias"
_STANDARD = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "map", "seq"))
_MENDS = (
    ("mapping values are not allowed", 'a value that holds ": " must be quoted; or the line is indented too far'),
    ("could not find expected ':'", "a key is followed by a colon and a space"),
    ("while scanning an alias", 'quote text that begins with *: "*@example.com"'),
    ("while scanning an anchor", "quote text that begins with &"),
    ("found character", "quote the value"),
    ("found unexpected end of stream", "a quotation mark or bracket is not closed"),
    ("did not find expected", "check the indentation and the brackets"),
    ("expected <block end>", "check the indentation of this line"),
    ("expected ',' or", "a bracket is not closed, or a comma is missing"),
    ("another document", "remove the line ---; a configuration is one document"),
)


class _Composer(yaml.SafeLoader):
    """PyYAML's composer without its guesses: plain scalars keep their text, aliases are marked."""

    def resolve(self, kind: type[yaml.Node], value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            return _PLAIN if implicit[0] else "tag:yaml.org,2002:str"
        return str(super().resolve(kind, value, implicit))  # type: ignore[no-untyped-call] # the stubs of PyYAML leave it untyped

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()  # type: ignore[no-untyped-call] # the same
            return yaml.ScalarNode(_ALIAS, event.anchor, event.start_mark, event.end_mark)
        return super().compose_node(parent, index)


def read(data: bytes, report: Report) -> Any:
    """The document as dicts, lists, text, int, bool and None; None for an empty one or one that cannot be read.

    Fills in the report's source and places.
    """
    if len(data) > LARGEST:
        report.add_at(None, f"the file holds more than {LARGEST} octets, the most that a configuration has")
        return None
    try:
        text = report.source = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        report.source = data.decode("utf-8", "replace")
        line = data.count(b"\n", 0, error.start)
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1)
        report.add_at(Span(line, column, column + 1), "this is not UTF-8 text", "save the file as UTF-8")
        return None
    try:
        root = yaml.compose(text, _Composer)
        return _Walk(report).value(root, ()) if root is not None else None
    except yaml.MarkedYAMLError as error:
        _syntax_error(error, text, report)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position)
        column = error.position - (text.rfind("\n", 0, error.position) + 1)
        report.add_at(Span(line, column, column + 1), f"the control character {error.character:#04x} is not allowed")
    except RecursionError:
        report.add_at(None, f"brackets or lists are nested more than {_DEEPEST} deep")
    except (ValueError, OverflowError):  # PyYAML on "\U00110000"
        report.add_at(None, "a quoted text holds an escape that is no character")
    return None


def _syntax_error(error: yaml.MarkedYAMLError, text: str, report: Report) -> None:
    problem = error.problem or "syntax error"
    mark = error.problem_mark or error.context_mark
    if "end of stream" in problem and error.context_mark:
        mark = error.context_mark  # where the quote was opened says more than where the file ends
    tabs = [(number, line) for number, line in enumerate(text.split("\n")) if _TAB.match(line)]
    if "'\\t'" in problem and tabs:
        for number, line in tabs:
            column = line.index("\t")
            report.add_at(Span(number, column, column + 1), "tabs cannot indent", "use spaces")
        return
    if conflict := _CONFLICT.search(text):
        number = text.count("\n", 0, conflict.start())
        report.add_at(Span(number, 0, 7), "git left a conflict here", "keep one of the two sides, and remove the marks")
        return
    if mark and "'\\t'" in problem:
        report.add_at(Span(mark.line, mark.column, mark.column + 1), "a tab stands where only spaces may", "use spaces")
        return
    mend = next((mend for part, mend in _MENDS if part in f"{problem} {error.context}"), "")
    if mark and problem.startswith("expected ',' or") and "${" in "".join(text.splitlines()[mark.line : mark.line + 1]):
        mend = 'quote a reference: "${env:NAME}"'
    if error.context:
        problem = f"{error.context} {problem}" if problem.startswith("but ") else f"{problem} ({error.context})"
    report.add_at(Span(mark.line, mark.column, mark.column + 1) if mark else None, problem, mend)


class _Walk:
    """From nodes to plain data; notes where everything stands and what is not allowed."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._places: dict[Loc, Marks] = {}
        report.places = self._places

    def value(self, node: yaml.Node, loc: Loc, key: Span | None = None) -> Any:
        span = _span(node)
        self._places[loc] = Marks(span, key)
        if len(loc) > _DEEPEST:
            self._refuse(loc, f"this is nested more than {_DEEPEST} deep")
            return None
        if node.tag == _ALIAS:
            self._refuse(loc, "aliases (*name) are not supported", "write the value out")
            return None
        if node.tag not in _STANDARD and node.tag != _PLAIN:
            self._refuse(loc, "tags (!name) are not supported", "remove the tag")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, loc)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*loc, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, loc)

    def _mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            span = _span(key_node)
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == _ALIAS or _UNPRINTABLE.search(key_node.value):
                self._report.add_at(span, "a key must be plain text")
                continue
            key = str(key_node.value)
            if not _SIMPLE_KEY.fullmatch(key) and (":" in key[:-1] or looks_secret(key)):  # {token:abc} is one key, and not to be printed
                self._report.add_at(span, "a key, a colon, a space and a value are expected", 'write it like this: token: "…"')
                continue
            if node.flow_style and value_node.start_mark.index == key_node.end_mark.index:  # {token: abc,def}: it may be half a secret
                self._report.add_at(span, "a key has no colon and no value", "write key: value, and quote a value that holds a comma")
                continue
            if key in found:
                first = self._places[*loc, key].key or span
                self._report.add_at(span, f'duplicate key "{key}"', f"first defined on line {first.line + 1}")
                continue
            found[key] = self.value(value_node, (*loc, key), span)
        return found

    def _scalar(self, node: yaml.Node, loc: Loc) -> str | int | bool | None:
        text = str(node.value)
        if node.tag == _PLAIN:
            if text in _CONSTANTS:
                return _CONSTANTS[text]
            if _INTEGER.fullmatch(text):
                return int(text)
        if odd := _UNPRINTABLE.search(text):
            what = "the value" if loc and looks_secret(str(loc[-1])) else f"{odd.start() + 1} characters on, the value"
            self._refuse(loc, f"{what} holds a control character")
            return None
        return text

    def _refuse(self, loc: Loc, text: str, mend: str = "") -> None:
        self._report.add(loc, text, mend)
        self._report.silenced.add(loc)


def _span(node: yaml.Node) -> Span:
    start, end = node.start_mark, node.end_mark
    same_line = end.line == start.line
    return Span(start.line, start.column, end.column if same_line else start.column + 1)
