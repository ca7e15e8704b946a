"""What is written about the commands is true."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from relay.cli import door, exits
from relay.cli.main import VERBS, main
from relay.daemon import hints
from relay.users import set_password
from tests.commands import write
from tests.configs import certificate

pytestmark = pytest.mark.usefixtures("nothing_of_this_host")


ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_documented(verb: str) -> None:
    """docs/operate.md or docs/convert.md shows each command."""
    assert any(f"relay {verb}" in (ROOT / "docs" / name).read_text() for name in ("operate.md", "convert.md"))


@pytest.mark.parametrize("number", [0, 1])
def test_the_configurations_of_the_readme_are_good(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a newcomer copies passes `relay check`, once the files and secrets are there that it names."""
    text = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[number]
    for name in re.findall(r"\$\{env:(\w+)\}", text):
        monkeypatch.setenv(name, "AKIAFAKEFAKEFAKEFAKE" if name.endswith("KEY_ID") else "fake-secret-0000")
    certificate(tmp_path)
    set_password(tmp_path / "users", "app1", "fake-password")
    for name in re.findall(r"\$\{file:/etc/relay/(\w+)\}", text):
        write(tmp_path / name, "fake-secret-0000\n")
    text = text.replace("/etc/relay/", f"{tmp_path}/")
    assert exits.OK == main(["check", write(tmp_path / "relay.yaml", text)]), capsys.readouterr().err


def test_the_first_mail_of_the_readme_is_the_one_that_is_printed() -> None:
    """`relay serve --dev` prints the two commands that the README shows."""
    printed = hints(Path("/x"), [("local", "127.0.0.1:1025")], ["unix:/x/admin.sock", "127.0.0.1:8025"], ".venv/bin/relay")
    readme = (ROOT / "README.md").read_text()
    assert [True, True] == [line.partition(":")[2].strip() in readme for line in printed[2:]]


OPERATE = (ROOT / "docs" / "operate.md").read_text()
SHOWN = [
    (typed, text)
    for title in ("Why does a mail go there?", "Move a route to another provider")
    for typed, text in re.findall(r"```\n\$ ([^\n]*)\n(.*?)```", OPERATE.partition(f"## {title}\n")[2].partition("\n## ")[0], re.DOTALL)
]
FILES = {typed.removeprefix("cat "): text for typed, text in SHOWN if typed.startswith("cat ")}


@pytest.mark.parametrize(("typed", "shown"), [pair for pair in SHOWN if pair[0].startswith("relay ")], ids=lambda text: text[:40])
def test_the_examples_of_routes(
    typed: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/operate.md shows what is really printed, but for what a daemon says."""
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        write(tmp_path / name, text)
    monkeypatch.setattr(door.Live, "reachable", lambda _: False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: (print(f"{question}y"), "y")[1])
    assert exits.OK == main(shlex.split(typed)[1:])
    printed = re.sub(r"the daemon is not running.*", "reloaded: route shop changed", capsys.readouterr().out)
    assert shown == printed
