"""Changing one value in the text of a configuration, and no other character of it.

Where the value stands is found by the marks that YAML gives, and the new text is put there: comments, order, quoting, line
ends and everything else stay. What comes out is read again: it is the same configuration but for that value, or CannotEdit
says what to write by hand. Pure.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from relay.config import marks
from relay.config.problems import Report

_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_ONE_LINE = (None, "'", '"')  # styles of scalars that end where their marks say

Change = tuple[int, int, str]
"""Where it begins and ends in the text, and what shall stand there."""


class CannotEdit(Exception):
    """The text cannot be changed without a guess. `line` counts from 1, 0 is none; `mend` is what to write."""

    def __init__(self, text: str, line: int = 0, mend: str = "") -> None:
        self.text = text
        self.line = line
        self.mend = mend
        super().__init__(text)


def with_split(source: str, route: str, weights: Mapping[str, str]) -> str:
    """The text in which the split of this route has these weights, each as it is to be written: `{"ses": "80"}`.

    `source` is the text of a configuration without mistakes; a byte order mark is no part of it. The weights name every
    provider of the split; one that it does not have yet is added. `via` with a single provider becomes a split. Raises
    CannotEdit.
    """
    node = _route(source, route)
    keys = {key.value: (key, value) for key, value in node.value}
    if "ramp" in keys:
        text = f"route {route} has a ramp: its weights come from the date"
        raise CannotEdit(text, _line(keys["ramp"][0]), f"to end the ramp write in its place {written(weights)}")
    if "split" in keys:
        changes = list(_changed(source, route, keys["split"][1], weights))
    elif "via" in keys:
        changes = list(_in_place_of_via(source, route, *keys["via"], weights))
    else:
        raise CannotEdit(f"route {route} has no split", _line(node), f"write {written(weights)}")
    out = source
    in_order = sorted(enumerate(changes), key=lambda change: (change[1][0], change[0]), reverse=True)
    for _, (start, end, text) in in_order:  # from the end, so that the places before it stay
        out = out[:start] + text + out[end:]
    if not _only_that(source, out, route, weights):
        raise CannotEdit(f"how route {route} is written leaves no sure place for the weights", _line(node), f"write {written(weights)}")
    return out


def written(weights: Mapping[str, str]) -> str:
    """The key and its value on one line: `split: {ses: 80, mailtrap: 20}`."""
    return f"split: {_flow(weights)}"


def _flow(weights: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{name}: {weight}" for name, weight in weights.items()) + "}"


def _route(source: str, route: str) -> yaml.MappingNode:
    """Where the route stands. Raises CannotEdit where it does not."""
    root = yaml.compose(source, yaml.SafeLoader)
    listed = next((value for key, value in root.value if key.value == "routes"), None) if isinstance(root, yaml.MappingNode) else None
    for node in listed.value if isinstance(listed, yaml.SequenceNode) else ():
        if isinstance(node, yaml.MappingNode) and any((key.value, value.value) == ("name", route) for key, value in node.value):
            return node
    raise CannotEdit(f"the file writes no route named {route}", _line(listed) if listed else 0)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _changed(source: str, route: str, split: yaml.Node, weights: Mapping[str, str]) -> Iterator[Change]:
    """The new weights in a split that is there, then what is added to it."""
    if not isinstance(split, yaml.MappingNode):
        raise CannotEdit(f"the split of route {route} is not written as keys and values", _line(split), f"write {written(weights)}")
    there = [key.value for key, _ in split.value]
    if missing := [name for name in there if name not in weights]:
        raise CannotEdit(f"the split of route {route} has {' and '.join(missing)}, too: name every provider", _line(split))
    for _, value in split.value:
        if value.style not in _ONE_LINE:
            raise CannotEdit(f"a weight of route {route} is written as a block of text", _line(value), f"write {written(weights)}")
    for key, value in split.value:
        yield _inside(source, value, weights[key.value])
    added = [f"{name}: {weight}" for name, weight in weights.items() if name not in there]
    if added:
        yield _below(source, split, added)


def _inside(source: str, node: yaml.Node, text: str) -> Change:
    """A scalar's text replaced, within its quotation marks where it has some."""
    start, end = node.start_mark.index, node.end_mark.index
    return (start + 1, end - 1, text) if source[start : start + 1] in ("'", '"') else (start, end, text)


def _below(source: str, mapping: yaml.MappingNode, pairs: Sequence[str]) -> Change:
    """More pairs behind the last one of a mapping: on its line in brackets, else on lines of their own."""
    first, last = mapping.value[0][0], mapping.value[-1][1]
    if mapping.flow_style:
        return last.end_mark.index, last.end_mark.index, "".join(f", {pair}" for pair in pairs)
    return _lines_below(source, last.end_mark.index, first.start_mark.column, pairs)


def _lines_below(source: str, position: int, column: int, lines: Sequence[str]) -> Change:
    """Lines behind the one that holds `position`, each at this column; with line ends as the text has them."""
    found = _LINE_END.search(source, position)
    end = found.start() if found else len(source)
    usual = found or _LINE_END.search(source)
    between = usual[0] if usual else "\n"
    return end, end, "".join(f"{between}{' ' * column}{line}" for line in lines)


def _in_place_of_via(source: str, route: str, key: yaml.Node, value: yaml.Node, weights: Mapping[str, str]) -> Iterator[Change]:
    """`via: a` as a split. Where via names several providers in order, nobody knows whether that order is to stay."""
    there = [item.value for item in value.value] if isinstance(value, yaml.SequenceNode) else [value.value]
    if len(there) > 1:
        text = f"route {route} tries {', then '.join(there)}; a split chooses one of its providers for each recipient"
        order = f"fallback: [{', '.join(there)}]"
        raise CannotEdit(text, _line(key), f"in place of via write {written(weights)}, and to keep that order behind it {order}")
    if there[0] not in weights:
        raise CannotEdit(f"route {route} goes by {there[0]}: name it, too", _line(key))
    yield _inside(source, key, "split")
    if isinstance(value, yaml.SequenceNode) and not value.flow_style:
        yield from _in_place_of_item(source, value, weights)
    elif _LINE_END.search(source, value.start_mark.index, value.end_mark.index):
        raise CannotEdit(f"via of route {route} is written on several lines", _line(key), f"in their place write {written(weights)}")
    else:
        yield value.start_mark.index, value.end_mark.index, _flow(weights)


def _in_place_of_item(source: str, value: yaml.SequenceNode, weights: Mapping[str, str]) -> Iterator[Change]:
    """The only item below `via:` becomes a key with its weight: a blank takes the place of the dash."""
    dash, item = value.start_mark.index, value.value[0]
    yield dash, dash + 1, " "
    yield item.end_mark.index, item.end_mark.index, f": {weights[item.value]}"
    others = [f"{name}: {weight}" for name, weight in weights.items() if name != item.value]
    yield _lines_below(source, item.end_mark.index, item.start_mark.column, others)


def _only_that(before: str, after: str, route: str, weights: Mapping[str, str]) -> bool:
    """Whether the second text says what the first one does, but for these weights of the route's split."""
    wanted, found = copy.deepcopy(_plain(before)), _plain(after)
    try:
        index = next(number for number, item in enumerate(wanted["routes"]) if item.get("name") == route)
        wanted["routes"][index].pop("via", None)
        wanted["routes"][index].pop("split", None)
        split = found["routes"][index].pop("split")
        return bool(wanted == found) and {name: str(weight) for name, weight in split.items()} == dict(weights)
    except (KeyError, TypeError, AttributeError, IndexError, StopIteration):
        return False


def _plain(text: str) -> Any:
    """What a text says; None where it cannot be read."""
    report = Report("")
    data = marks.read(text.encode(), report)
    return None if report.problems else data
