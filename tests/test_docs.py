"""The documents keep up with the code: every key, event and series is told, with the defaults that hold."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from relay import config, log, users
from relay.cli import exits
from relay.cli.main import VERBS, main
from relay.config import marks
from relay.config.model import LATER, Root
from relay.config.problems import Report
from relay.config.providers import PROVIDERS
from relay.config.rules import CaseConfig, MatchConfig, NotConfig, RampConfig, RouteConfig, StepBackConfig
from relay.config.section import Section, keys_of, section_below
from relay.metrics import Metrics
from relay.model import Client
from tests.configs import ENVIRON, certificate
from tests.servers import ca_file

ROOT = Path(__file__).parent.parent
EXAMPLE = (ROOT / "relay.yaml.example").read_text()
CONFIG_MD = (ROOT / "docs/config.md").read_text()
LOGS_MD = (ROOT / "docs/logs.md").read_text()


def _below(model: type[Section], key: str) -> type[Section]:
    return cast(type[Section], section_below(model, key))


def sections() -> Iterator[tuple[type[Section], tuple[str | int, ...]]]:
    """Each section's model, and where the example shows it in full."""
    yield Root, ()
    yield config.ListenConfig, ("listen", 0)
    for kind, model in PROVIDERS.items():
        name = "smarthost" if kind == "smtp" else kind
        yield model, ("providers", name)
        for below in {"limits", "batch"} & keys_of(model).keys():
            yield _below(model, below), ("providers", name, below)
    yield RouteConfig, ("routes",)
    yield MatchConfig, ("routes", 0, "match")
    yield NotConfig, ("routes", 0, "match")
    yield RampConfig, ("routes", 2, "ramp")
    yield StepBackConfig, ("routes", 2, "ramp", "step_back")
    yield CaseConfig, ("tests", 0)
    for name in ("senders", "queue", "bounce", "admin", "log"):
        yield _below(Root, name), (name,)


SECTIONS = {model: loc for model, loc in sections()}
KEYS = [(model, key) for model in SECTIONS for key in keys_of(model)]


def example(loc: tuple[str | int, ...]) -> Any:
    """What stands there in the example, as plain data."""
    found = marks.read(EXAMPLE.encode(), Report("relay.yaml.example"))
    for part in loc:
        found = found[part]
    if isinstance(found, list):  # each item shows another way
        found = {key: value for item in reversed(found) for key, value in item.items()}
    return found or {}


def test_every_section_is_looked_at() -> None:
    """A new section cannot be forgotten here."""
    assert set(LATER) == set(SECTIONS)


@pytest.mark.parametrize(("model", "key"), KEYS, ids=lambda value: getattr(value, "__name__", value))
def test_the_example_has_every_key_with_its_default(model: type[Section], key: str) -> None:
    """The key stands in its section, below its sentence, with its default; one without a default shows an example, which may
    be commented out."""
    field, shown = keys_of(model)[key], example(SECTIONS[model])
    assert f"# {field.description}\n" in EXAMPLE
    if field.is_required() or isinstance(field.default, Section) or key in {"listen", "routes", "header", "ramp", "tests"}:
        assert key in shown
    elif field.default in (None, "", (), {}):
        assert re.search(rf"(?m)^ *# {re.escape(field.description or '')}\n *(# )?{key}: \S", EXAMPLE)
    else:
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        assert default == shown[key]


EXCLUSIVE = {"capture: capture", "session_token", "profile", "username: 1a2b", 'password: "${cred:mailtrap', "proxy", "shared_with"}
"""How those examples begin that stand for another choice than the one shown beside them."""


@pytest.mark.parametrize("all_keys", [False, True], ids=["as it is", "with every key"])
def test_the_example_loads(tmp_path: Path, all_keys: bool) -> None:
    """The example is a good configuration, also when what is commented out is not."""
    text = EXAMPLE
    if all_keys:
        text = re.sub(r"(?m)^( *)# ([a-z_]+: (?:\S+|\[.*\]|\{.*\}))$", _uncommented, text).replace("/etc/relay/ca.pem", ca_file(tmp_path))
        text = text.replace("tls: off", "tls: optional").replace("/etc/relay/", f"{tmp_path}/")
        certificate(tmp_path)
        users.set_password(tmp_path / "users", "app", "fake-password")
        assert "\nhostname: relay.example.com" in text
    path = tmp_path / "relay.yaml"
    path.write_text(text)
    path.chmod(0o600)
    for name in ("smarthost", "ses-smtp", "postmark-access", "postmark-secret"):
        (tmp_path / name).write_text("fake-password")
    loaded = config.load(path, environ={**ENVIRON, "CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert ["newsletter", "patients", "news", "default"] == [route.name for route in loaded.route_table()]
    assert all_keys == ("fake-password" in loaded.secrets())


def _uncommented(match: re.Match[str]) -> str:
    return match[0] if any(match[2].startswith(begin) for begin in EXCLUSIVE) else match[1] + match[2]


@pytest.mark.parametrize(("model", "key"), KEYS, ids=lambda value: getattr(value, "__name__", value))
def test_config_md_tells_every_key(model: type[Section], key: str) -> None:
    """The key, whether it is required, and its sentence."""
    field = keys_of(model)[key]
    row = next(line for line in CONFIG_MD.splitlines() if line.startswith(f"| `{key}` |") and line.endswith(f"| {field.description} |"))
    assert field.is_required() == ("| required |" in row)


def test_logs_md_tells_every_event() -> None:
    """Each method of Events has its row."""
    rows = "".join(line for line in LOGS_MD.splitlines() if line.startswith("| `"))
    assert {name for name in dir(log.Events) if not name.startswith("_")} <= set(re.findall(r"`(\w+)`", rows))


def test_logs_md_tells_every_series() -> None:
    """Each series on the metrics page has its row, and no row tells of one that is not there."""
    page = Metrics(version="1", listeners=["l"], providers=["p"], routes=[("r", "p")]).render()[0].decode()
    there = {name.removesuffix("_total") for name in re.findall(r"(?m)^# TYPE (relay_\w+) ", page)}
    told = {name.removesuffix("_total") for name in re.findall(r"(?m)^\| `(relay_\w+)", LOGS_MD)}
    assert there == told


DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    """A link to a file of ours names one that is there, and a heading in it that is there."""
    for target, anchor in re.findall(r"\]\((?!https?:|mailto:)([^)#]*)(?:#([^)]*))?\)", document.read_text()):
        path = document.parent / target if target else document
        assert path.exists(), target
        headings = {_anchor(heading) for heading in re.findall(r"(?m)^#+ (.+)$", path.read_text())} if anchor else set()
        assert not anchor or anchor in headings, f"{target}#{anchor}"


def _anchor(heading: str) -> str:
    """What a heading is called in a link, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


LOGIN_FAILED = "warning: unknown[192.0.2.7]: SASL PLAIN authentication failed: wrong name or password, sasl_username="


@pytest.mark.parametrize("document", ["docs/logs.md", "docs/listeners.md"])
def test_the_filter_for_fail2ban_finds_the_address(document: str, caplog: pytest.LogCaptureFixture) -> None:
    """Both documents show the same filter. It reads a line in a file, and in the journal with relay's own stamp or the unit's, and never
    takes an address from the name that the client gave."""
    [written] = re.findall(r"(?m)^ *failregex = (.*)$", (ROOT / document).read_text())
    failregex = re.compile(written.replace("<HOST>", r"(?P<host>[0-9a-fA-F.:]+)"))  # as fail2ban reads it, after it took the time off
    log.Events().login_failed(Client("lan", "192.0.2.7", name="unknown"), "PLAIN", "app1")
    assert [f"{LOGIN_FAILED}app1"] == [record.msg for record in caplog.records]
    for before in ("", " host ", "host ", "host relay[812]: "):
        for name in ("app1", "x relay/smtpd[1]: warning: a[203.0.113.9]: SASL PLAIN authentication failed: "):
            found = failregex.search(f"{before}relay/smtpd[812]: {LOGIN_FAILED}{name}")
            assert found
            assert "192.0.2.7" == found["host"]
    assert not failregex.search("host relay/smtpd[812]: NOQUEUE: reject: MAIL from unknown[192.0.2.7]: 550 5.7.1 no")


README = (ROOT / "README.md").read_text()
MOVE = README.partition("## Move to another provider")[2].partition("\n## ")[0]


def test_the_readme_is_short_and_leads_everywhere() -> None:
    """120 lines at most, and a link to every document."""
    assert 120 >= len(README.splitlines())
    linked = set(re.findall(r"\]\((docs/[^)#]+\.md)", README))
    assert [] == sorted({f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} - linked)


@pytest.mark.parametrize("line", re.findall(r"(?m)^(relay .*?)(?: *#.*)?$", MOVE))
def test_what_the_readme_shows_of_moving_runs(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its commands on its file end well; the daemon itself is for others."""
    [text] = re.findall(r"```yaml\n(.*?)```", MOVE, re.DOTALL)
    path = tmp_path / "move.yaml"
    path.write_text(f"hostname: relay.example.com\n{text.replace('/tmp/', f'{tmp_path}/')}")
    path.chmod(0o600)
    words = shlex.split(line.replace("move.yaml", str(path)))[1:]
    assert exits.OK == main(["check", str(path)] if words[0] == "serve" else words), capsys.readouterr().err


def test_what_the_readme_calls_not_built_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Commands that are not there, and the only key that is known and not taken yet."""
    missing = README.partition("## What is not built yet")[2].partition("\n## ")[0]
    assert {"maildrop"} == set().union(*LATER.values())
    for words in ("queue export", "queue import", "doctor", "init", "install", "completion"):
        assert words.rpartition(" ")[2] in missing
        assert exits.USAGE == main(words.split())
    assert not set(re.findall(r"relay (\w+)", missing)) & {verb.split()[0] for verb in VERBS}
    assert "unknown" in capsys.readouterr().err


def examples(name: str) -> list[str]:
    """A document's pieces of configuration that name providers."""
    return [text for text in re.findall(r"(?ms)^```yaml\n(.*?)^```$", (ROOT / name).read_text()) if re.search(r"(?m)^providers:", text)]


SHOWN = [(name, text) for name in ("docs/budgets.md", "docs/shadow.md", "docs/migration.md") for text in examples(name)]


@pytest.mark.parametrize(("name", "text"), SHOWN, ids=lambda value: value[:30].replace("\n", " "))
def test_the_configurations_of_the_documents_are_good(name: str, text: str, tmp_path: Path) -> None:
    """Each loads, with secrets, and with a route where it shows none."""
    names = re.findall(r"(?m)^  (\w+):", text.partition("providers:")[2].partition("\nroutes:")[0])
    if "\nroutes:" not in text:
        text += f"routes: [{{name: default, via: [{', '.join(names)}]}}]\n"
    for secret in re.findall(r"\$\{(?:env|cred):([\w-]+)\}", text):
        (tmp_path / secret).write_text("AKIAFAKEFAKEFAKE0000" if secret.lower().endswith("id") else "fake-secret-0000")
    text = text.replace("${env:", "${cred:").replace("/etc/relay/", f"{tmp_path}/")
    users.set_password(tmp_path / "users", "app", "fake-password", identity="shop")
    path = tmp_path / "relay.yaml"
    path.write_text(text)
    path.chmod(0o600)
    config.load(path, environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
