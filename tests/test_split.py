"""`relay split`: a route's weights changed in the file, and put in force."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay import routing
from relay.cli import exits
from relay.cli.main import main
from relay.cli.verbs import split as verb
from tests.commands import Relay, write

CONFIG = """\
hostname: relay.example.com
providers:
  mailtrap: {token: "fake-token-0001"}
  postmark: {token: "fake-token-0000"}
  ses: {region: eu-west-1, access_key_id: AKIAFAKEFAKEFAKEFAKE, secret_access_key: "fake-secret-0000"}  # the old one
admin: {listen: "unix:/nowhere/admin.sock"}
routes:
  - {name: shop, match: {from: "*@shop.example.com"}, via: postmark}
  - name: moving  # until new year
    match: {from: "*@example.net"}
    ramp: {from: 2026-12-01, over: 14d, postmark: 100..0, ses: 0..100}
  - name: order
    match: {from: "*@example.org"}
    via: [postmark, ses]
  - {name: default, split: {postmark: 80, ses: 20}}
"""


@pytest.fixture(autouse=True)
def path(nothing_of_this_host: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CONFIG and no other."""
    monkeypatch.setenv("RELAY_CONFIG", write(tmp_path / "relay.yaml", CONFIG))
    return tmp_path / "relay.yaml"


def untouched(path: Path) -> tuple[int, int, bytes]:
    """What is another one when a file was written or replaced."""
    return path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()


def test_what_is_shown_and_written(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The difference without secrets, who moves where; then the file holds it, and nothing else of it changed."""
    path.write_text(CONFIG + "# last\n")
    assert exits.OK == main(["split", "default", "postmark=70", "ses=30", "--yes"])
    printed = capsys.readouterr()
    assert "" == printed.err
    assert [
        f"--- {path}",
        f"+++ {path} (new)",
        "@@ -14,3 +14,3 @@",
        "     via: [postmark, ses]",
        "-  - {name: default, split: {postmark: 80, ses: 20}}",
        "+  - {name: default, split: {postmark: 70, ses: 30}}",
        " # last",
        "",
        "provider   before    after  of 10,000 recipients",
        "postmark   80.2 %   69.6 %",
        "ses        19.8 %   30.4 %",
        "10.6 % of the recipients move from postmark to ses",
        f"{path}: written",
        "the daemon is not running (cannot reach unix:/nowhere/admin.sock): it holds from its next start",
    ] == printed.out.splitlines()
    assert CONFIG.replace("postmark: 80, ses: 20", "postmark: 70, ses: 30") + "# last\n" == path.read_text()


def test_a_secret_beside_the_change(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stars, whichever line it stands on."""
    keys = "region: eu-west-1, access_key_id: AKIAFAKEFAKEFAKEFAKE, secret_access_key: fake-secret-0000"
    providers = f'{{postmark: {{token: "fake-token-0000"}}, ses: {{{keys}}}}}'
    path.write_text(f"providers: {providers}\nroutes: [{{name: d, split: {{postmark: 1, ses: 1}}}}]\n")
    assert exits.OK == main(["split", "d", "postmark=2", "ses=1", "--yes", "--no-reload"])
    printed = capsys.readouterr().out
    assert "+routes: [{name: d, split: {postmark: 2, ses: 1}}]" in printed.splitlines()
    assert ["fake-token" in printed, "fake-secret" in printed, "AKIA" in printed] == [False] * 3
    path.write_text(f"{{providers: {providers}, routes: [{{name: d, split: {{postmark: 1, ses: 1}}}}]}}\n")
    assert exits.OK == main(["split", "d", "postmark=2", "ses=1", "--yes", "--no-reload"])
    printed = capsys.readouterr().out
    assert ["fake-token" in printed, "fake-secret" in printed, "AKIA" in printed] == [False] * 3


def test_a_test_of_the_file_that_fails_then_is_told(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that fails already is not, nor one that goes on to hold."""
    old, new = (routing.Split((("postmark", first), ("ses", 100 - first))) for first in (80, 70))
    keys = [f"u{number}@example.com" for number in range(1000)]
    moved = next(key for key in keys if (routing.pick(old, key), routing.pick(new, key)) == ("postmark", "ses"))
    stays = next(key for key in keys if routing.pick(old, key) == "ses")
    cases = [(stays, "ses"), (moved, "postmark"), (stays, "postmark")]
    path.write_text(CONFIG + "tests:\n" + "".join(f"  - {{from: a@x.example, to: {to}, expect: {by}}}\n" for to, by in cases))
    assert exits.OK == main(["split", "default", "postmark=70", "ses=30", "--yes", "--no-reload"])
    told = f"tests.1.expect fails then: expected postmark; for {moved} it is ses, by route default"
    assert f"warning: {path}: {told}\n" == capsys.readouterr().err


def test_via_becomes_a_split(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where it names one provider; all its mail went there before."""
    assert exits.OK == main(["split", "shop", "postmark=90", "ses=10", "--yes", "--no-reload"])
    assert "9.9 % of the recipients move from postmark to ses" in capsys.readouterr().out
    assert (
        CONFIG.replace('"*@shop.example.com"}, via: postmark', '"*@shop.example.com"}, split: {postmark: 90, ses: 10}') == path.read_text()
    )


def test_a_provider_is_added(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Behind those that are there; one with weight 0 stays in the file."""
    assert exits.OK == main(["split", "default", "ses=0", "mailtrap=1.5", "postmark=98.5", "--yes", "--no-reload"]), capsys.readouterr().err
    assert CONFIG.replace("postmark: 80, ses: 20", "postmark: 98.5, ses: 0, mailtrap: 1.5") == path.read_text()


def test_nothing_to_do(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same weights in another order are the same split."""
    before = untouched(path)
    assert exits.OK == main(["split", "default", "ses=20", "postmark=80"])
    assert f"{path}: route default has this split already; nothing is to be done\n" == capsys.readouterr().out
    assert before == untouched(path)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["default", "postmark"], exits.USAGE, "'postmark' is not PROVIDER=WEIGHT: write ses=20, or ses=0.5"),
        (["default", "postmark=-1", "ses=1"], exits.USAGE, "'postmark=-1' is not PROVIDER=WEIGHT"),
        (["default", "postmark=80%", "ses=1"], exits.USAGE, "'postmark=80%' is not PROVIDER=WEIGHT"),
        (["default", "=1", "ses=1"], exits.USAGE, "'=1' is not PROVIDER=WEIGHT"),
        (["default", "postmark=0", "ses=0.0"], exits.USAGE, "all weights are 0: nobody would get this route's mail"),
        (["default", "ses=1", "ses=2"], exits.USAGE, "ses is named twice"),
        (["defualt", "ses=1", "postmark=2"], exits.USAGE, 'no route is named "defualt"; did you mean "default"?'),
        (["x", "ses=1", "postmark=2"], exits.USAGE, 'no route is named "x"; configured: shop, moving, order, default'),
        (["default", "ses=1", "postmak=2"], exits.USAGE, 'no provider is named "postmak"; did you mean "postmark"?'),
        (["default", "ses=1", "x=2"], exits.USAGE, 'no provider is named "x"; configured: mailtrap, postmark, ses'),
        (["default", "ses=1"], exits.CONFIG, "relay.yaml:15: the split of route default has postmark, too: name every provider"),
        (["shop", "ses=1"], exits.CONFIG, "relay.yaml:8: route shop goes by postmark: name it, too"),
        (
            ["moving", "ses=1", "postmark=2"],
            exits.CONFIG,
            "relay.yaml:11: route moving has a ramp: its weights come from the date\n"
            "     = to end the ramp write in its place split: {ses: 1, postmark: 2}",
        ),
        (
            ["order", "ses=1", "postmark=2"],
            exits.CONFIG,
            "in place of via write split: {ses: 1, postmark: 2}, and to keep that order behind it fallback: [postmark, ses]",
        ),
        (["default", "ses=1", "postmark=2", "--dev"], exits.USAGE, "the development set-up has no configuration file"),
        (["default", "ses=1", "postmark=2"], exits.USAGE, "relay.yaml was not changed: answer at a terminal, or say --yes"),
        (["default", "ses=1", "postmark=2", "-c", "/no/such"], exits.NO_INPUT, "/no/such: no such file"),
    ],
)
def test_what_is_refused(arguments: list[str], code: int, said: str, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is meant, or what to write; the file is as it was."""
    before = untouched(path)
    assert code == main(["split", *arguments])
    assert said in capsys.readouterr().err
    assert (before, ["relay.yaml"]) == (untouched(path), os.listdir(path.parent))


def test_without_a_configuration(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """66."""
    monkeypatch.delenv("RELAY_CONFIG")
    assert exits.NO_INPUT == main(["split", "default", "a=1", "b=1"])
    assert "name one: relay split -c FILE" in capsys.readouterr().err


@pytest.mark.parametrize(("answer", "written"), [("y", True), ("Yes", True), ("n", False), ("", False)])
def test_it_asks(answer: str, written: bool, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Anything but yes is no."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    assert exits.OK == main(["split", "default", "postmark=70", "ses=30", "--no-reload"])
    assert written == (path.read_text() != CONFIG)
    printed = capsys.readouterr()
    assert written == ("relay: nothing was changed" not in printed.err)


def test_a_file_with_mistakes_is_left_alone(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether they are there already, or would come in."""
    path.write_text(CONFIG + "x: 1\n")
    assert exits.CONFIG == main(["split", "default", "postmark=70", "ses=30", "--yes"])
    assert f"{path}:16:1: x: unknown key" in capsys.readouterr().err
    assert CONFIG + "x: 1\n" == path.read_text()


def test_a_file_that_would_have_mistakes_is_not_written(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The loader looks at the new text before it takes the place of the old, and names places in the file as it would be."""
    text = CONFIG.replace("mailtrap: {", "mailtrap: {stream: sandbox, sandbox_id: 1, ")
    path.write_text(text)
    assert exits.CONFIG == main(["split", "default", "postmark=70", "ses=30", "mailtrap=1", "--yes"])
    said = capsys.readouterr().err
    assert f"{path}:15:" in said
    assert ": routes.3.split.mailtrap: " in said
    assert f"{path}: not written, because it would have mistakes" in said
    assert ".new" not in said
    assert (text, ["relay.yaml"]) == (path.read_text(), os.listdir(path.parent))


def test_new_warnings_are_told(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that the file had before are not: relay check tells them."""
    monkeypatch.setattr(verb, "with_split", lambda source, route, weights: "# one line more\n" + source)
    assert exits.OK == main(["split", "default", "postmark=1", "ses=1", "--yes", "--no-reload"])
    first = capsys.readouterr().err
    monkeypatch.setattr(verb, "with_split", lambda source, route, weights: source.replace("{postmark: 80, ses: 20}", "{ses: 20}"))
    assert exits.OK == main(["split", "default", "postmark=1", "ses=1", "--yes", "--no-reload"])
    second = capsys.readouterr().err
    assert "" == first
    assert f"warning: {path}:16:" in second
    assert ".new" not in second


def test_what_changed_meanwhile_is_not_overwritten(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """75, and the other's text stays."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: "y" if path.write_text(CONFIG + "# mine\n") else "n")
    assert exits.TRY_LATER == main(["split", "default", "postmark=70", "ses=30"])
    assert "was changed by somebody else meanwhile; nothing was written" in capsys.readouterr().err
    assert CONFIG + "# mine\n" == path.read_text()


def _with(relay: Relay) -> str:
    """The routes of CONFIG in the configuration that leads to the served daemon."""
    text = CONFIG.replace("unix:/nowhere/admin.sock", f"unix:{relay.served.unix}")
    write(relay.config, text)
    return text


async def test_the_daemon_reads_it(relay: Relay) -> None:
    """At once, unless it is told not to; and what it says of it is printed."""
    text = _with(relay)
    printed = await relay("split", "default", "postmark=70", "ses=30", "--yes", "--no-reload")
    assert (exits.OK, 0, "written") == (printed.code, relay.served.reloads, printed.out.splitlines()[-1][-7:])
    printed = await relay("split", "default", "postmark=60", "ses=40", "--yes")
    assert (exits.OK, 1, "reloaded: provider ses changed") == (printed.code, relay.served.reloads, printed.out.splitlines()[-1])
    assert text.replace("postmark: 80, ses: 20", "postmark: 60, ses: 40") == relay.config.read_text()


async def test_a_daemon_that_does_not_take_it(relay: Relay) -> None:
    """The file is changed, the old configuration holds, and both are said."""
    _with(relay)
    relay.served.problems = ["relay.yaml:1:1: x: not good"]
    printed = await relay("split", "default", "postmark=70", "ses=30", "--yes")
    assert exits.CONFIG == printed.code
    assert "relay.yaml:1:1: x: not good\nrelay: " in printed.err
    assert "is changed, but the daemon goes on with the old one: " in printed.err


@contextlib.contextmanager
def _mute(path: Path) -> Iterator[None]:
    """A daemon that breaks off every conversation."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    server.accept()[0].close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_a_daemon_that_cannot_be_asked(tmp_path: Path, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is changed, and what is left to do is said."""
    with _mute(tmp_path / "admin.sock"):
        path.write_text(CONFIG.replace("/nowhere/admin.sock", str(tmp_path / "admin.sock")))
        assert exits.TRY_LATER == main(["split", "default", "postmark=70", "ses=30", "--yes"])
    assert "is changed, but not in force yet: the daemon at" in capsys.readouterr().err


def test_shares_by_message() -> None:
    """What is counted is what the split sticks to."""
    old, new = (routing.Route("r", ("a", "b"), split=routing.Split((("a", a), ("b", 100 - a)), "message")) for a in (80.0, 70.0))
    assert "provider   before    after  of 10,000 messages" == next(iter(verb.moves(old, new)))
    assert "no messages move" == list(verb.moves(old, old))[-1]
