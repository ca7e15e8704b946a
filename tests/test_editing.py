"""Changing the weights of a route's split in the text of a configuration, whatever its layout; and the file as a whole."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import config
from relay.cli import editing, exits
from relay.config.editing import CannotEdit, with_split
from tests.configs import written

FLOW = "routes:\n  - {name: d, split: {a: 80, b: 20}, patience: 1m}  # the rest\n"
BLOCK = "routes:\n  - name: d  # first\n    split:  # by weight\n      a: 80   # old\n      'b': \"20\"\n    patience: 1m\n"


@pytest.mark.parametrize(
    ("source", "weights", "expected"),
    [
        (FLOW, {"a": "7", "b": "3"}, FLOW.replace("80", "7").replace("20", "3")),
        (FLOW, {"b": "3", "a": "7"}, FLOW.replace("80", "7").replace("20", "3")),
        (FLOW, {"a": "0.5", "b": "0", "c": "5"}, FLOW.replace("80", "0.5").replace("20", "0, c: 5")),
        (BLOCK, {"a": "7", "b": "3"}, BLOCK.replace("80", "7").replace("20", "3")),
        (BLOCK, {"a": "7", "b": "3", "c": "1"}, BLOCK.replace("80", "7").replace('"20"', '"3"\n      c: 1')),
        (
            BLOCK.replace("\n", "\r\n"),
            {"a": "7", "b": "3", "c": "1"},
            BLOCK.replace("80", "7").replace('"20"', '"3"\n      c: 1').replace("\n", "\r\n"),
        ),
        ("routes:\n- name: d\n  split:\n    a: 1", {"a": "1", "c": "2"}, "routes:\n- name: d\n  split:\n    a: 1\n    c: 2"),
        ("routes: [{name: d, split: {a: 1,}}]", {"a": "1", "c": "2"}, "routes: [{name: d, split: {a: 1, c: 2,}}]"),
        (
            "routes: [{name: d, split: {\n  a: 1,  # x\n  b: 2  # y\n}}]",
            {"a": "3", "b": "4", "c": "5"},
            "routes: [{name: d, split: {\n  a: 3,  # x\n  b: 4, c: 5  # y\n}}]",
        ),
        ("routes:\n- name: d\n  via: a  # one\n", {"a": "9", "b": "1"}, "routes:\n- name: d\n  split: {a: 9, b: 1}  # one\n"),
        ("routes:\n- {name: d, via: [a]}\n", {"b": "1", "a": "9"}, "routes:\n- {name: d, split: {b: 1, a: 9}}\n"),
        ('routes: [{"name": "d", "via":"a"}]', {"a": "9", "b": "1"}, 'routes: [{"name": "d", "split":{a: 9, b: 1}}]'),
        (
            "routes:\n- name: d\n  via:  # v\n  - a  # one\n  patience: 1m\n",
            {"b": "1", "a": "9"},
            "routes:\n- name: d\n  split:  # v\n    a: 9  # one\n    b: 1\n  patience: 1m\n",
        ),
        ("routes:\n- name: d\n  via:\n  - 'a'", {"a": "9", "b": "1"}, "routes:\n- name: d\n  split:\n    'a': 9\n    b: 1"),
        (
            "routes:\n- name: é\n  via: a\n- name: d\n  via: a\n",
            {"a": "9", "b": "1"},
            "routes:\n- name: é\n  via: a\n- name: d\n  split: {a: 9, b: 1}\n",
        ),
    ],
)
def test_only_the_weights_change(source: str, weights: dict[str, str], expected: str) -> None:
    """In brackets and in lines, with quotation marks, comments and line ends as they are; what is new stands behind the others."""
    assert expected == with_split(source, "d", weights)


@pytest.mark.parametrize(
    ("source", "weights", "text", "line", "mend"),
    [
        ("providers: {a: {}}\n", {"a": "1"}, "the file writes no route named d", 0, ""),
        ("routes:\n- name: e\n  via: a\n", {"a": "1"}, "the file writes no route named d", 2, ""),
        (FLOW, {"a": "1"}, "the split of route d has b, too: name every provider", 2, ""),
        (
            "routes:\n- name: d\n  via: [a, b]\n",
            {"a": "8", "b": "2"},
            "route d tries a, then b; a split chooses one of its providers for each recipient",
            3,
            "in place of via write split: {a: 8, b: 2}, and to keep that order behind it fallback: [a, b]",
        ),
        ("routes:\n- name: d\n  via: a\n", {"b": "2", "c": "1"}, "route d goes by a: name it, too", 3, ""),
        (
            "routes:\n- name: d\n  via: [\n    a  # x\n  ]\n",
            {"a": "2", "c": "1"},
            "via of route d is written on several lines",
            3,
            "in their place write split: {a: 2, c: 1}",
        ),
        (
            "routes:\n- name: d\n  via: |-\n    a\n",
            {"a": "2", "c": "1"},
            "via of route d is written on several lines",
            3,
            "in their place write split: {a: 2, c: 1}",
        ),
        (
            "routes:\n- name: d\n  split:\n    a: |-\n      1\n    b: 2\n",
            {"a": "2", "b": "1"},
            "a weight of route d is written as a block of text",
            4,
            "write split: {a: 2, b: 1}",
        ),
        (
            "routes:\n- name: d\n  split: [a]\n",
            {"a": "2", "b": "1"},
            "the split of route d is not written as keys and values",
            3,
            "write split: {a: 2, b: 1}",
        ),
        ("routes:\n- name: d\n", {"a": "2", "b": "1"}, "route d has no split", 2, "write split: {a: 2, b: 1}"),
        (
            "routes:\n- name: d\n  ramp: {from: 2026-12-01}\n",
            {"a": "2", "b": "1"},
            "route d has a ramp: its weights come from the date",
            3,
            "to end the ramp write in its place split: {a: 2, b: 1}",
        ),
        (
            "routes:\n- name: d\n  split:\n    ? a\n    : 1\n",
            {"a": "2", "b": "1"},
            "how route d is written leaves no sure place for the weights",
            2,
            "write split: {a: 2, b: 1}",
        ),
    ],
)
def test_what_is_not_guessed(source: str, weights: dict[str, str], text: str, line: int, mend: str) -> None:
    """The place, why, and what to write by hand."""
    with pytest.raises(CannotEdit) as caught:
        with_split(source, "d", weights)
    assert (text, line, mend) == (caught.value.text, caught.value.line, caught.value.mend)


PROVIDERS = ("keep", "other", "p-1", "third")
HEAD = "hostname: relay.example.com  # ü\nproviders:\n" + "".join(f"  {name}: {{type: capture}}\n" for name in (*PROVIDERS, "spare"))
OTHERS = ("match: {{from: '*@{name}.example.com'}}", "patience: 1m", 'fallback: ["spare"]', "sticky: sender")


@dataclass(frozen=True)
class Layout:
    """A configuration: what stands before the route that is meant, its lines, what stands behind it; and its weights."""

    before: str
    route: str
    after: str
    weights: dict[str, str]


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Routes in lines or in brackets, keys in any order, quoted or not, with comments and blank lines among them."""
    end = draw(st.sampled_from(["\n", "\r\n"]))
    outer = draw(st.integers(0, 3))
    names = draw(st.permutations(["one", "two", "three"]))[: draw(st.integers(1, 3))]
    meant = draw(st.integers(0, len(names) - 1))
    blocks: list[str] = []
    weights: dict[str, str] = {}
    for number, name in enumerate(names):
        text, its = draw(_route(name, outer))
        blocks.append(text)
        weights = its if number == meant else weights
    rest = f"{' ' * outer}- {{name: rest, via: keep}}" + draw(st.sampled_from(["", "\n", "\n\n# the end", "  # x\nlog: {level: debug}\n"]))
    before = HEAD + f"routes:{draw(_comments)}\n" + "".join(blocks[:meant])
    parts = [before, blocks[meant], "".join(blocks[meant + 1 :]) + rest]
    before, route, after = (part.replace("\n", end) for part in parts)
    return Layout(before, route, after, weights)


_comments = st.sampled_from(["", "  # a: comment, {with} 'quotes'", " #", "\n\n# on: a line\n"])
_one_line = st.sampled_from(["", "  # x", " # it's"])


@st.composite
def _route(draw: st.DrawFn, name: str, outer: int) -> tuple[str, dict[str, str]]:
    """The text of one route and the weights in it (of `via`: none)."""
    quote = draw(st.sampled_from(["", "'", '"']))
    used = draw(st.permutations(PROVIDERS))[: draw(st.integers(1, 3))]
    weights = {one: draw(st.sampled_from(["80", "20", "0.5", "1"])) for one in used} if draw(st.booleans()) else {used[0]: ""}
    others = draw(st.lists(st.sampled_from(OTHERS), unique=True))
    others = [other.format(name=name) for other in others if "sticky" not in other or weights[used[0]]]
    if "match" not in "".join(others):
        others.append(f"match: {{to: {name}@example.com}}")
    in_brackets = draw(st.booleans())
    share = draw(_share(weights, quote, -1 if in_brackets else outer + 2))
    pairs = draw(st.permutations([f"name: {quote}{name}{quote}", share, *others]))
    if in_brackets:
        between = draw(st.sampled_from([", ", ",\n      ", " ,  # c\n      "]))
        return f"{' ' * outer}- {{{between.join(pairs)}{draw(st.sampled_from(['', ' ', chr(10) + '     ']))}}}{draw(_one_line)}\n", weights
    lines = [pair if "\n" in pair else pair + draw(_one_line) for pair in pairs]
    between = f"\n{' ' * (outer + 2)}"
    return f"{' ' * outer}- {between.join(lines)}{draw(_one_line) if chr(10) not in lines[-1] else ''}\n", weights


@st.composite
def _share(draw: st.DrawFn, weights: dict[str, str], quote: str, column: int) -> str:
    """`split` or `via`, in brackets, or below its key where `column` says at which column that stands."""
    inner = " " * (column + draw(st.integers(1, 4)))
    if "" in weights.values():
        (name,) = weights
        forms = [f"via: {quote}{name}{quote}", f"via: [{quote}{name}{quote}]", f"via: [ {name} ,]"]
        forms += [f"via:{draw(_one_line)}\n{inner}- {quote}{name}{quote}", f"via:\n{' ' * column}-   {name}"] * (column >= 0)
        return draw(st.sampled_from(forms))
    pairs = [f"{one}: {quote}{weight}{quote}" for one, weight in weights.items()]
    forms = [
        f"split: {{{', '.join(pairs)}}}",
        f"split: {{\n       {f',  # y{chr(10)}       '.join(pairs)}\n      }}",
        f"split: {{{', '.join(pairs)},}}",
    ]
    if column >= 0:
        forms.append(f"split:{draw(_one_line)}\n{inner}" + f"{draw(_one_line)}\n{inner}".join(pairs))
    return draw(st.sampled_from(forms))


def _loaded(directory: Path, text: str) -> config.Config:
    """What the loader sees."""
    return config.load(written(directory, text), environ={}, inside_service=False, for_sending=False)


@given(layouts(), st.data())
def test_whatever_the_layout(tmp_path_factory: pytest.TempPathFactory, layout: Layout, data: st.DataObject) -> None:
    """The loader sees the new weights and all else as before; outside of the route nothing differs, and within it no line
    that holds no weight."""
    directory = tmp_path_factory.mktemp("layout")
    added = data.draw(st.sets(st.sampled_from([name for name in PROVIDERS if name not in layout.weights])))
    number = st.sampled_from(["0", "3", "70", "99.5", "0.25"])
    weights = {name: data.draw(number) for name in data.draw(st.permutations([*layout.weights, *sorted(added)]))} | {"keep": "7"}
    source = layout.before + layout.route + layout.after
    old = _loaded(directory, source)
    name = next(route.name for route in old.routes if f"{route.name}@" in layout.route or f"@{route.name}." in layout.route)

    text = with_split(source, name, weights)

    new = _loaded(directory, text)
    for before, after in zip(old.routes, new.routes, strict=True):
        if after.name == name:
            assert {one: float(weight) for one, weight in weights.items()} == dict(after.split or {})
            after = after.model_copy(update={"split": before.split, "via": before.via})
        assert before == after
    assert (old.providers, old.log, old.senders) == (new.providers, new.log, new.senders)
    assert text.startswith(layout.before)
    assert text.endswith(layout.after)
    found = iter(text.removeprefix(layout.before).splitlines(keepends=True))
    for line in layout.route.splitlines(keepends=True):
        if not any(f"{one}" in line for one in ("split", "via", "- ", *PROVIDERS)):
            assert line in found, line
    assert source.count("#") == text.count("#")


TEXT = "a: 1\r\nb: 2\n"


def test_a_file_is_replaced_as_it_was(tmp_path: Path) -> None:
    """Mode, owner and a symlink to it stay; nothing is left beside it."""
    real, link = tmp_path / "etc" / "relay.yaml", tmp_path / "link.yaml"
    real.parent.mkdir()
    real.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    real.chmod(0o640)
    link.symlink_to("etc/relay.yaml")
    if os.geteuid() == 0:
        os.chown(real, 1234, 4321)
    before = real.stat()
    original = editing.read(link)
    assert TEXT == original.text
    editing.put(original, original.with_text("c: 3\n"))
    after = real.stat()
    assert b"\xef\xbb\xbfc: 3\n" == real.read_bytes()
    assert (before.st_mode, before.st_uid, before.st_gid) == (after.st_mode, after.st_uid, after.st_gid)
    assert (True, ["relay.yaml"]) == (link.is_symlink(), os.listdir(real.parent))


def _written_by_somebody(path: Path) -> None:
    path.write_text("mine: 1\n")


def _replaced_by_somebody(path: Path) -> None:
    other = path.with_name("other")
    other.write_text(TEXT)
    other.replace(path)


def _led_elsewhere(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


@pytest.mark.parametrize("change", [_written_by_somebody, _replaced_by_somebody, _led_elsewhere])
def test_what_somebody_changed_meanwhile_stays(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """Also where it holds the same as before: it is another file."""
    path = written(tmp_path, TEXT)
    original = editing.read(path)
    change(path)
    left = path.read_bytes()
    with pytest.raises(exits.Stop, match=r"was changed by somebody else meanwhile; nothing was written\. Try again") as caught:
        editing.put(original, b"c: 3\n")
    assert (exits.TRY_LATER, left) == (caught.value.code, path.read_bytes())
    assert [] == [name for name in os.listdir(tmp_path) if name.endswith(".new")]


@pytest.mark.parametrize(
    ("call", "number", "code", "said"),
    [
        ("fsync", errno.ENOSPC, exits.OUTPUT, "cannot be written: No space left on device; nothing was changed"),
        (
            "fchmod",
            errno.EPERM,
            exits.PERMISSION,
            "cannot be replaced with its owner and mode kept: .*; nothing was changed. Try sudo",
        ),
        (
            "setxattr",
            errno.EPERM,
            exits.PERMISSION,
            "cannot be replaced with its owner and mode kept: .*; nothing was changed. Try sudo",
        ),
        ("replace", errno.EBUSY, exits.OUTPUT, "cannot be replaced: .*; nothing was changed. It is mounted by itself: change it where"),
    ],
)
def test_what_the_system_refuses_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, code: int, said: str
) -> None:
    """One sentence, the file as it was, nothing beside it."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    path = written(tmp_path, TEXT)
    original = editing.read(path)
    monkeypatch.setattr(os, "listxattr", lambda _: ["user.note"])
    monkeypatch.setattr(os, "getxattr", lambda *_: b"x")
    monkeypatch.setattr(os, call, refuse)
    if call != "setxattr":
        monkeypatch.setattr(os, "setxattr", lambda *_: None)
    with pytest.raises(exits.Stop, match=said) as caught:
        editing.put(original, b"c: 3\n")
    monkeypatch.undo()
    assert (code, TEXT.encode(), ["relay.yaml"]) == (caught.value.code, path.read_bytes(), os.listdir(tmp_path))


def test_a_disk_that_does_not_confirm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is the new one then, and that is not hidden."""
    path = written(tmp_path, TEXT)
    original, really = editing.read(path), os.open

    def refuse(name: str, flags: int, *more: int, **other: int) -> int:
        if flags & os.O_DIRECTORY:
            raise OSError(errno.EIO, "Input/output error")
        return really(name, flags, *more, **other)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(exits.Stop, match=r"the file is changed, but the disk does not confirm it: .*: Input/output error") as caught:
        editing.put(original, b"c: 3\n")
    assert (exits.OUTPUT, b"c: 3\n") == (caught.value.code, path.read_bytes())


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    """66."""
    with pytest.raises(exits.Stop, match="there is no such file") as caught:
        editing.read(tmp_path / "gone")
    assert exits.NO_INPUT == caught.value.code


def test_access_lists_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Extended attributes are those of the old file, but for what a security module gives; a file system without any is well."""
    given: dict[str, bytes] = {}
    monkeypatch.setattr(os, "listxattr", lambda _: ["system.posix_acl_access", "security.selinux"])
    monkeypatch.setattr(os, "getxattr", lambda _, name: name.encode())
    monkeypatch.setattr(os, "setxattr", lambda _, name, value: given.update({name: value}))
    path = written(tmp_path, TEXT)
    editing.put(editing.read(path), b"c: 3\n")
    assert {"system.posix_acl_access": b"system.posix_acl_access"} == given

    def none(_: Path) -> list[str]:
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(os, "listxattr", none)
    editing.put(editing.read(path), b"d: 4\n")
    assert b"d: 4\n" == path.read_bytes()


def test_the_difference_tells_no_secret() -> None:
    """The lines that changed and one around them; values of secrets, and what looks like one in a comment, are stars."""
    old = 'x: 1\nproviders:\n  p: {token: "fake-token-0000"}\nroutes: [{name: d, split: {a: 80, b: 20}}]\n'
    old += "# was 12345678-fake-4321-old1\nlast: 1\n"
    new = old.replace("a: 80, b: 20", "a: 70, b: 30")
    assert [
        "--- relay.yaml",
        "+++ relay.yaml (new)",
        "@@ -3,3 +3,3 @@",
        "   p: {token: *****************}",
        "-routes: [{name: d, split: {a: 80, b: 20}}]",
        "+routes: [{name: d, split: {a: 70, b: 30}}]",
        " # was ***********************",
    ] == list(editing.difference("relay.yaml", old, new))
    assert "@@ -1 +1,2 @@" in list(editing.difference("x", "a\n", "a\nb\n"))


def test_weights_are_shown() -> None:
    """With the comment behind them, also of a provider whose name looks like a secret's; other numbers stay stars."""
    old = "split:\n  one: 80   # old\n  'my-token': \"12345678\"\n  password: 12345678  # why\n"
    assert [
        "@@ -1,3 +1,3 @@",
        " split:",
        "-  one: 80   # old",
        "+  one: 7   # old",
        "   'my-token': \"12345678\"",
    ] == list(editing.difference("x", old, old.replace("80", "7"), ["one", "my-token"]))[2:]
    assert "   password: ********  * ***" in list(editing.difference("x", old, old.replace('12345678"', '9"'), ["one", "my-token"]))
    assert "-  one: **   * ***" in list(editing.difference("x", old, old.replace("80", "7")))
