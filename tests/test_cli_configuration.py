"""`relay check` and `relay config`: what a configuration says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relay.cli import exits
from relay.cli.main import main
from tests.commands import write

pytestmark = pytest.mark.usefixtures("nothing_of_this_host")


def test_check_sums_up_a_good_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Listeners, providers and routes in a few lines."""
    path = write(tmp_path / "relay.yaml", "providers: {smarthost: {type: smtp, host: mail.example.net}}\n")
    assert exits.OK == main(["check", path])
    assert [
        f"{path}: ok",
        "  listen  local  127.0.0.1:25",
        "  provider  smarthost  smtp  by SMTP",
        "  route  default  via smarthost",
    ] == capsys.readouterr().out.splitlines()


def test_check_says_how_each_provider_is_spoken_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its API, by SMTP or both ways, and why not."""
    text = (
        "providers: {postmark: {token: fake-token-0000}, keep: {type: capture}, ses: {region: eu-west-1, "
        "access_key_id: AKIAFAKEFAKEFAKE0000, secret_access_key: fake-secret-0000}}\nroutes: [{name: all, via: [postmark, ses]}]\n"
    )
    main(["check", write(tmp_path / "relay.yaml", text)])
    assert [
        "  provider  postmark  postmark  by API and by SMTP",
        "  provider  keep      capture",
        "  provider  ses       ses       by API; no SMTP: Amazon SES takes messages as they are by its API",
    ] == [line for line in capsys.readouterr().out.splitlines() if line.startswith("  provider")]


def test_check_names_every_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 78; each with its place, a caret and the mend; with --json one object each."""
    path = write(tmp_path / "relay.yaml", "providers:\n  smarthost: {type: smpt}\nlog: {levle: info}\n")
    assert exits.CONFIG == main(["check", path])
    said = capsys.readouterr().err
    assert f"{path}:2:21: providers.smarthost.type: unknown provider type" in said
    assert '= did you mean "level"?' in said
    assert exits.CONFIG == main(["check", path, "--json"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ["error", "error"] == [line["level"] for line in found]


ROUTES = """providers:
  a: {type: smtp, host: a.example.net}
  b: {type: smtp, host: b.example.net}
  hole: {type: capture}
routes:
  - {name: x, match: {to: "*@x.org"}, split: {a: 80, b: 20}, fallback: [a, b], allow_recipients: ["*@x.org", "qa@*"], capture: hole}
  - {name: y, match: {to: "*@y.org"}, ramp: {from: 2099-12-01, over: 14d, a: 100..0, b: 0..100}, sticky: sender, redirect: qa@example.com}
  - {name: z, via: [a, b], allow_recipients: "*@z.org", shadow: hole}
"""


def test_check_says_how_each_route_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By split, by ramp as it is today, past a staging guard, with a shadow."""
    assert exits.OK == main(["check", write(tmp_path / "relay.yaml", ROUTES)])
    assert [
        "  route  x  split by recipient: a 80 %, b 20 %, then a, b; staging guard: only *@x.org, qa@*, others to hole",
        "  route  y  ramp by sender: a 100 %, b 0 %; staging guard: all mail to qa@example.com",
        "  route  z  via a, b; staging guard: only *@z.org, others refused; shadow hole",
    ] == [line for line in capsys.readouterr().out.splitlines() if line.startswith("  route")]


def test_check_runs_the_tests_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each that fails is a mistake, with its line and why; exit 78, also with --json. Other commands do not run them."""
    path = write(tmp_path / "relay.yaml", ROUTES + "tests:\n  - {from: x@example.com, to: y@y.org, expect: a, route: y}\n")
    assert exits.OK == main(["check", path])
    assert "  tests  1 passed" == capsys.readouterr().out.splitlines()[-1]
    wrong = "  - {from: x@example.com, to: y@y.org, expect: b}\n"
    path = write(tmp_path / "relay.yaml", ROUTES + f"tests:\n{wrong}{wrong}")
    assert exits.CONFIG == main(["check", path])
    said = capsys.readouterr().err.splitlines()
    assert f"{path}:10:48: tests.0.expect: expected b; for y@y.org it is a, by route y" == said[0]
    assert "     = not x: to: y@y.org is not *@x.org" in said
    assert "     = y takes it; a by sender: a 100 %, b 0 %" in said
    assert exits.CONFIG == main(["check", path, "--json"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ["error", "error"] == [line["level"] for line in found]
    assert all("expected b; for y@y.org it is a" in line["text"] for line in found)
    assert exits.OK == main(["config", "show", "-c", path])


def test_a_warning_fails_only_a_strict_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Mail that goes nowhere is allowed, and said."""
    path = write(tmp_path / "relay.yaml", "providers: {capture: {}}\n")
    assert exits.OK == main(["check", "-c", path])
    printed = capsys.readouterr()
    assert f"{path}: ok" == printed.out.splitlines()[0]
    assert "warning: " in printed.err
    assert exits.CONFIG == main(["check", path, "--strict"])
    assert f"{path}: 1 warning, refused by --strict" == capsys.readouterr().out.splitlines()[0]


def test_commands_need_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The daemon's token is not in an admin's environment; the daemon is reached all the same."""
    path = write(
        tmp_path / "relay.yaml",
        'providers: {postmark: {token: "${env:NOT_SET_HERE}"}}\n'
        f'queue: {{spool: "{tmp_path}/none"}}\nadmin: {{listen: "unix:{tmp_path}/a"}}\n',
    )
    assert exits.UNAVAILABLE == main(["status", "-c", path])
    assert f"cannot reach unix:{tmp_path}/a" in capsys.readouterr().err
    assert exits.CONFIG == main(["status", "-c", write(tmp_path / "bad.yaml", "admin: {listen: 25}\n")])
    assert exits.NO_INPUT == main(["status", "-c", str(tmp_path)])


def test_the_configuration_as_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every default filled in, no secret, and none needed; without a file of its own that of --dev can be shown."""
    path = write(tmp_path / "relay.yaml", 'providers: {postmark: {token: "${env:NOT_SET_HERE}"}}\n')
    assert exits.OK == main(["config", "show", "-c", path])
    printed = capsys.readouterr()
    assert "    token: '[secret]'\n" in printed.out
    assert "address: 127.0.0.1:25" in printed.out
    assert "" == printed.err
    assert exits.OK == main(["config", "show", "--dev"])
    assert "type: capture" in capsys.readouterr().out
    assert exits.NO_INPUT == main(["config", "show"])
    assert "name one: relay config show -c FILE" in capsys.readouterr().err


def test_the_schema_of_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON Schema, for editors."""
    assert exits.OK == main(["config", "schema"])
    assert "https://json-schema.org/draft/2020-12/schema" == json.loads(capsys.readouterr().out)["$schema"]
