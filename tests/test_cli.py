"""The command line: what can be typed, what is printed, which exit code ends it."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from relay import __version__, daemon
from relay.cli import door, exits, offline, show
from relay.cli.main import VERBS, _have_streams, main
from relay.cli.parser import filters, parser
from relay.cli.verbs import about, trial
from relay.daemon import hints
from relay.delivery import ProviderStatus
from relay.errors import ConfigError, RelayError, SpoolBusy, SpoolError, Unavailable
from relay.model import Outcome, State, Verdict
from relay.spool.base import Recorded
from relay.transports import presets
from relay.users import Users, set_password
from tests.configs import certificate
from tests.served import DEFERRED, MAIL, NOW, SENT, Served, serve

PLAIN = show.Paint(False)


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No configuration of this host and not its name, a time zone that is the same everywhere."""
    monkeypatch.setattr("socket.gethostname", lambda: "relay.example.com")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("RELAY_CONFIG", raising=False)
    monkeypatch.setattr(door, "CONFIG_FILE", tmp_path / "etc" / "relay.yaml")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@dataclass
class Printed:
    """What a command left behind."""

    code: int
    out: str
    err: str


class Relay:
    """The command against a served spool: `await relay("queue", "list")`."""

    def __init__(self, served: Served, config: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
        self.served = served
        self._config = config
        self._captured = capsysbinary

    async def __call__(self, *arguments: str) -> Printed:
        self._captured.readouterr()
        code = await asyncio.to_thread(main, [*arguments, "-c", str(self._config)])
        out, err = self._captured.readouterr()
        return Printed(code, out.decode(), err.decode())

    async def json(self, *arguments: str) -> list[Any]:
        """The objects printed, one for each line."""
        printed = await self(*arguments, "--json")
        assert (0, "") == (printed.code, printed.err)
        return [json.loads(line) for line in printed.out.splitlines()]


def configuration(directory: Path, admin: str) -> Path:
    """A configuration file that leads to the served spool."""
    path = directory / "relay.yaml"
    path.write_text(f'providers: {{capture: {{}}}}\nqueue: {{spool: "{directory}/spool"}}\nadmin: {{listen: "{admin}"}}\n')
    path.chmod(0o640)
    return path


@pytest.fixture
async def relay(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> AsyncIterator[Relay]:
    """The command, with a daemon's API to talk to."""
    async with serve(tmp_path) as served:
        yield Relay(served, configuration(tmp_path, f"unix:{served.unix}"), capsysbinary)


# What can be typed.


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("chekc", 'unknown "chekc"; did you mean "check"?\nTry: relay --help'),
        ("queue dleete", 'unknown "dleete"; did you mean "delete"?\nTry: relay queue --help'),
        ("queue xyz", 'unknown "xyz"; known: list, show, retry, delete'),
        ("queue list --state defered", 'unknown "defered"; did you mean "deferred"?'),
        ("queue list --older 5", "'5' is not a time; write 30s, 5m, 2h or 5d"),
        ("queue list --limit 0", "--limit wants a number from 1"),
        ("queue show", "the following arguments are required: ID"),
        ("queue show A --raw --headers", "not allowed with"),
        ("queue show ../../x", "'../../x' is not a queue id"),
        ("queue retry A --id B", "give the ids one way"),
        ("queue delete", "say which: ids, filters, or --all"),
        ("serve --directory x", "--directory goes with --dev"),
        ("serve --dev -c x.yaml", "--dev and -c x.yaml exclude each other"),
        ("-c x.yaml status --dev", "--dev and -c x.yaml exclude each other"),
        ("log caf\udce9", "an argument is not valid UTF-8: 'caf\\udce9'\n"),
        ("queue list --to \udcff", "an argument is not valid UTF-8"),
        ("test \ud800@example.net", "an argument is not valid UTF-8"),
        ("log", "the following arguments are required: TERM"),
        ("log one two", "one TERM at a time"),
        ("config", "the following arguments are required: VERB"),
        ("config shwo", 'unknown "shwo"; did you mean "show"?'),
        ("convert x.eml", "the following arguments are required: --provider"),
        ("convert x.eml --provider postmark --json --curl", "not allowed with"),
        ("passwd app1 --delete --stdin", "not allowed with"),
        ("smtp-password", "say which: relay smtp-password P"),
        ("smtp-password ses --region eu-west-1", "leave out P, or --region"),
        ("status --verbose", "unrecognized arguments: --verbose"),
    ],
)
def test_a_wrong_command_says_what_to_type(typed: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 64, and a guess where a word is near a known one."""
    assert exits.USAGE == main(typed.split())
    assert said in capsys.readouterr().err


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The help teaches where to start; asking for it is no error, typing nothing is."""
    assert exits.USAGE == main([])
    assert "relay serve --dev" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--help"])


@pytest.mark.parametrize("typed", [["version"], ["--version"]])
def test_the_version(typed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Name and number."""
    assert exits.OK == main(typed)
    assert f"relay {__version__}\n" == capsys.readouterr().out


def test_filters_hold_before_and_after_the_verb() -> None:
    """A filter typed before `delete` must not be forgotten."""
    options = parser().parse_args(["queue", "--state", "hold", "delete", "--to", "*@x", "--older", "2h", "--yes"])
    assert {"state": "hold", "to": "*@x", "older": "7200"} == filters(options)


def test_nothing_heavy_is_imported_for_a_light_command(capsys: pytest.CaptureFixture[str]) -> None:
    """A command must start fast: no YAML, no validation, no web server for `relay version`."""
    code = (
        "import sys; from relay.cli.main import main; main(['version']); "
        "print(sorted({'yaml', 'pydantic', 'starlette', 'uvicorn', 'httpx', 'asyncio'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [f"relay {__version__}", "[]"] == done.stdout.splitlines()


# Errors.


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError(["a"]), 78),
        (ConfigError(["a"], 66), 66),
        (Unavailable("taken"), 69),
        (Unavailable("privileged", 77), 77),
        (SpoolBusy("held"), 69),
        (SpoolError("full"), 75),
        (RelayError("other"), 70),
        (ZeroDivisionError("x"), 70),
        (KeyboardInterrupt(), 130),
        (OSError(errno.ENOSPC, "No space left on device"), 74),
        (OSError(errno.ENOENT, "not about the output"), 70),
        (BrokenPipeError(), 0),
    ],
)
def test_every_error_has_its_exit_code_and_no_traceback(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence on standard error."""

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(about, "print", fails, raising=False)
    monkeypatch.setattr("relay.cli.main._drop_output", lambda: None)  # standard output is the test's here
    assert code == main(["version"])
    assert "Traceback" not in capsys.readouterr().err


def test_a_spool_one_may_not_read_is_a_permission_error() -> None:
    """sysexits 77, so that a script knows it is not about the spool."""
    error = SpoolError("cannot open")
    error.__cause__ = PermissionError()
    assert 77 == exits.of(error)


def test_a_bug_shows_where_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """RELAY_DEBUG lets the traceback through."""
    monkeypatch.setenv("RELAY_DEBUG", "1")
    monkeypatch.setattr(about, "print", lambda *_: 1 / 0, raising=False)
    with pytest.raises(ZeroDivisionError):
        main(["version"])


@pytest.mark.parametrize("verb", ["serve", "check"])
def test_without_a_configuration_it_says_how_to_begin(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """66, and what to type."""
    assert exits.NO_INPUT == main([verb])
    assert "there is no configuration" in capsys.readouterr().err


@pytest.mark.parametrize("typed", ["status -c /no/such.yaml", "serve -c /no/such.yaml", "check /no/such.yaml"])
def test_a_configuration_that_is_not_there(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    """66 names the file."""
    assert exits.NO_INPUT == main(typed.split())
    assert "/no/such.yaml: no such file" in capsys.readouterr().err


def test_without_daemon_and_spool_it_says_what_to_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """69: nothing can be told."""
    assert exits.UNAVAILABLE == main(["status"])
    assert f"there is no spool in {tmp_path}/state/relay-dev/spool" in capsys.readouterr().err


def test_a_socket_one_may_not_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """77 and the group to join."""

    def refuses(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(door._UnixConnection, "connect", refuses)
    assert exits.PERMISSION == main(["status"])
    assert "usermod -aG relay" in capsys.readouterr().err


def test_the_development_directory_follows_xdg(tmp_path: Path) -> None:
    """$XDG_STATE_HOME, else ~/.local/state."""
    assert Path("/x/relay-dev") == door.development_directory({"XDG_STATE_HOME": "/x", "HOME": "/h"})
    assert Path("/h/.local/state/relay-dev") == door.development_directory({"HOME": "/h"})


# serve


@pytest.mark.parametrize(
    ("program", "arguments", "typed"),
    [
        ("{here}/bin/relay", [], "bin/relay"),
        ("/usr/bin/relay", [], "/usr/bin/relay"),
        ("/x/relay/__main__.py", [], f"{sys.executable} -m relay"),
        ("/usr/bin/relay", ["--directory", "/x y"], "/usr/bin/relay --dev --directory '/x y'"),
    ],
)
def test_the_first_run_knows_how_it_was_typed(
    program: str, arguments: list[str], typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint is the command that works from here."""
    started: list[tuple[Path, str]] = []

    def development(directory: Path, command: str) -> int:
        started.append((directory, command))
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [program.format(here=tmp_path)])
    monkeypatch.setattr(daemon, "development", development)
    assert exits.OK == main(["serve", "--dev", *arguments])
    directory = Path(arguments[1]) if arguments else tmp_path / "state" / "relay-dev"
    assert [(directory, typed)] == started


def test_beside_a_configuration_the_hint_says_dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the command would talk to the configured daemon."""
    started: list[str] = []
    monkeypatch.setattr(sys, "argv", ["/usr/bin/relay"])

    def development(directory: Path, command: str) -> int:
        started.append(command)
        return 0

    monkeypatch.setattr(daemon, "development", development)
    monkeypatch.setenv("RELAY_CONFIG", write(tmp_path / "relay.yaml", "providers: {capture: {}}\n"))
    assert exits.OK == main(["serve", "--dev"])
    assert ["/usr/bin/relay --dev"] == started


def test_a_configured_daemon_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """-c, else $RELAY_CONFIG, else /etc/relay/relay.yaml; what the daemon returns is the exit code."""
    started: list[Path] = []

    def configured(path: Path) -> int:
        started.append(path)
        return 143

    monkeypatch.setattr(daemon, "configured", configured)
    for name in ("etc", "env", "named"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "relay.yaml", "")
    assert 143 == main(["serve"])
    monkeypatch.setenv("RELAY_CONFIG", str(tmp_path / "env" / "relay.yaml"))
    assert 143 == main(["serve"])
    assert 143 == main(["serve", "-c", str(tmp_path / "named" / "relay.yaml")])
    assert [tmp_path / name / "relay.yaml" for name in ("etc", "env", "named")] == started


def test_nobody_reads_on() -> None:
    """`relay … | head` ends quietly."""
    process = subprocess.Popen([sys.executable, "-m", "relay", "version"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert b"" == process.communicate()[1]
    assert 0 == process.returncode


def command(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line for the shell, where `relay` is the command."""
    line = line.replace("relay ", f"{shlex.quote(sys.executable)} -m relay ", 1)
    return subprocess.run(line, shell=True, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment})


@pytest.mark.parametrize("buffered", ["", "1"])
def test_output_that_cannot_be_written_is_said(buffered: str) -> None:
    """74 and one sentence, whether it shows at the first line or at the end."""
    done = command("relay version >/dev/full", PYTHONUNBUFFERED=buffered)
    assert (74, "relay: cannot write the output: No space left on device\n") == (done.returncode, done.stderr)


@pytest.mark.parametrize("line", ["relay version >&-", "relay version >&- 2>&- <&-", "relay log caf >&- 2>&-"])
def test_closed_streams_are_no_bug(line: str) -> None:
    """What goes nowhere is no error; the exit code is the verb's own."""
    done = command(line)
    assert ("version" not in line and 69, "", "") == (done.returncode, done.stdout, done.stderr)


def test_closed_streams_get_their_numbers_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each number is taken by the null device before anything else can be opened under it (here the system's answers are played)."""
    opened: list[str] = []

    def refuses(number: int) -> os.stat_result:
        raise OSError(errno.EBADF, "Bad file descriptor")

    def opens(path: str, flags: int) -> int:
        opened.append(path)
        return len(opened) - 1

    with monkeypatch.context() as played:
        played.setattr(os, "fstat", refuses)
        played.setattr(os, "open", opens)
        _have_streams()
    assert 3 * ["/dev/null"] == opened
    with monkeypatch.context() as played:
        played.setattr(sys, "stdout", None)
        _have_streams()
        assert (1, "backslashreplace") == (sys.stdout.fileno(), sys.stdout.errors)


# check


def write(path: Path, text: str) -> str:
    """A configuration file only its owner reads."""
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def test_check_sums_up_a_good_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Listeners, providers and routes in a few lines."""
    path = write(tmp_path / "relay.yaml", "providers: {smarthost: {type: smtp, host: mail.example.net}}\n")
    assert exits.OK == main(["check", path])
    assert [
        f"{path}: ok",
        "  listen  local  127.0.0.1:25",
        "  provider  smarthost  smtp",
        "  route  default  via smarthost",
    ] == capsys.readouterr().out.splitlines()


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


# config


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


# passwd and smtp-password

LISTENERS = """\
listen:
  - {{name: lan, address: "10.0.0.5:587", auth: "{0}/users"}}
  - {{name: two, address: "10.0.0.6:587", auth: "{0}/{1}"}}
  - {{name: local, address: "127.0.0.1:25"}}
providers: {{capture: {{}}}}
"""


def typing(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """A terminal at which these passwords are typed, one after the other."""
    left = list(answers)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda prompt: left.pop(0))


async def test_a_password_is_set_and_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the users file that the configuration names, which needs neither to exist yet nor the rest to be right."""
    path = write(tmp_path / "relay.yaml", LISTENERS.format(tmp_path, "users"))
    monkeypatch.setenv("RELAY_CONFIG", path)
    typing(monkeypatch, "fake-password", "fake-password")
    assert exits.OK == main(["passwd", "app1"])
    assert f"{tmp_path}/users: app1 added\n" == capsys.readouterr().out
    assert await Users(tmp_path / "users").verify("app1", "fake-password")
    monkeypatch.setattr(sys, "stdin", io.StringIO("another-password\n"))
    assert exits.OK == main(["passwd", "app1", "--stdin"])
    assert f"{tmp_path}/users: app1 has a new password\n" == capsys.readouterr().out
    assert await Users(tmp_path / "users").verify("app1", "another-password")
    assert exits.OK == main(["passwd", "app1", "--delete", "--users", f"{tmp_path}/users"])
    assert exits.NO_INPUT == main(["passwd", "app1", "--delete"])
    assert "there is no user app1" in capsys.readouterr().err


def test_which_users_file_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is more than one it must be said."""
    path = write(tmp_path / "relay.yaml", LISTENERS.format(tmp_path, "others"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("fake-password\n"))
    assert exits.USAGE == main(["passwd", "app1", "--stdin", "-c", path])
    said = capsys.readouterr().err
    assert f"Say --listener L or --users FILE; configured: lan ({tmp_path}/users), two ({tmp_path}/others)" in said
    assert exits.OK == main(["passwd", "app1", "--stdin", "-c", path, "--listener", "two"])
    assert (tmp_path / "others").exists()
    assert exits.USAGE == main(["passwd", "app1", "--stdin", "-c", path, "--listener", "local"])
    assert 'no listener with auth is named "local"' in capsys.readouterr().err
    assert exits.USAGE == main(["passwd", "app1", "-c", write(tmp_path / "x.yaml", "listen: []\n")])
    assert "no listener has auth" in capsys.readouterr().err
    assert exits.NO_INPUT == main(["passwd", "app1"])
    assert exits.NO_INPUT == main(["passwd", "app1", "-c", str(tmp_path)])
    assert exits.CONFIG == main(["passwd", "app1", "-c", write(tmp_path / "x.yaml", "listen: ][\n")])


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["one", "two"], "the two passwords are not the same; nothing was done"),
        ([""], "a password is not empty; nothing was done"),
    ],
)
def test_a_password_that_is_not_set(
    typed: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A slip at the terminal leaves the file alone."""
    typing(monkeypatch, *typed)
    assert exits.USAGE == main(["passwd", "app1", "--users", str(tmp_path / "users")])
    assert said in capsys.readouterr().err
    assert not (tmp_path / "users").exists()


def test_a_password_needs_a_terminal_or_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It is never an argument; a users file that cannot be written has the exit code of its reason."""
    users = ["--users", str(tmp_path / "users")]
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert exits.USAGE == main(["passwd", "app1", *users])
    assert "--stdin" in capsys.readouterr().err
    assert exits.USAGE == main(["passwd", "app1", "--stdin", *users])
    assert "holds no password" in capsys.readouterr().err
    for name, file, code in (("a:b", users[1], exits.DATA), ("app1", "/no/such/users", exits.NO_INPUT)):
        monkeypatch.setattr(sys, "stdin", io.StringIO("fake-password\n"))
        assert code == main(["passwd", name, "--stdin", "--users", file])


SES_SECRET = "FAKESECRETACCESSKEYforTests0000000000000"


def test_the_smtp_password_of_ses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Alone on standard output, the same by configuration, by standard input and at a terminal."""
    keys = '{region: eu-west-1, access_key_id: AKIAFAKEFAKEFAKEFAKE, secret_access_key: "${env:SES_SECRET}"}'
    routes = "routes: [{name: default, via: [ses, keep]}]"
    path = write(tmp_path / "relay.yaml", f"providers: {{ses: {keys}, keep: {{type: capture}}}}\n{routes}\n")
    monkeypatch.setenv("SES_SECRET", SES_SECRET)
    assert exits.OK == main(["smtp-password", "ses", "-c", path])
    expected = f"{presets.ses_smtp_password(SES_SECRET, 'eu-west-1')}\n"
    assert expected == capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{SES_SECRET}\n"))
    assert exits.OK == main(["smtp-password", "--region", "eu-west-1"])
    assert expected == capsys.readouterr().out
    typing(monkeypatch, SES_SECRET)
    assert exits.OK == main(["smtp-password", "--region", "eu-west-1"])
    assert expected == capsys.readouterr().out
    assert exits.USAGE == main(["smtp-password", "keep", "-c", path])
    assert "no provider keep of type ses" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("keys", "code", "said"),
    [
        ("smtp_password: not-derived, access_key_id: AKIAFAKEFAKEFAKEFAKE, mode: smtp", exits.OK, "not-derived\n"),
        ('access_key_id: AKIAFAKEFAKEFAKEFAKE, secret_access_key: "${cred:ses}"', exits.CONFIG, "only known inside the service"),
        ("profile: mail", exits.USAGE, "has no secret_access_key"),
    ],
)
def test_where_the_secret_of_ses_is(
    keys: str, code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A configured SMTP password is that password; a secret that is not to be had here is said."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    path = write(tmp_path / "relay.yaml", f"providers: {{ses: {{region: eu-west-1, {keys}}}}}\n")
    assert code == main(["smtp-password", "ses", "-c", path])
    printed = capsys.readouterr()
    assert said in printed.out + printed.err


def test_without_a_configuration_the_region_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    """66 names the way without one."""
    assert exits.NO_INPUT == main(["smtp-password", "ses"])
    assert "use --region" in capsys.readouterr().err


# Against a daemon.


async def test_status_in_words(relay: Relay) -> None:
    """Accepting, listeners, providers with their trouble, the queue."""
    relay.served.providers = [
        ProviderStatus("ses", "paused", "535 5.7.8 no", "check username and password", NOW - 5, NOW + 60, 2, 1),
        ProviderStatus("b", "up", "", "", 0, 0, 0, 0),
    ]
    await relay.served.store("a@example.net", "b@example.net")
    printed = await relay("status")
    assert (0, "") == (printed.code, printed.err)
    lines = [line.partition(", up ")[0] for line in printed.out.splitlines()]
    assert "relay 0.1.0 on relay.example.com, pid 812" == lines[0]
    assert "accepting mail: yes" == lines[1]
    assert "local     127.0.0.1:1025" in lines
    assert "ses       paused          1        2" in lines
    assert ["    535 5.7.8 no", "    to mend it: check username and password"] == lines[lines.index("    535 5.7.8 no") :][:2]
    assert "2           active  -" in lines
    assert lines[-1].startswith("1 in the queue; oldest: active ")


async def test_a_probe_time_that_is_over(relay: Relay) -> None:
    """With nobody waiting the next message is the probe; with somebody it goes any moment."""
    relay.served.providers = [
        ProviderStatus("ses", "paused", "535 no", "", NOW - 60, 1000.0, 0, 0),
        ProviderStatus("b", "paused", "535 no", "", NOW - 60, 1000.0, 1, 0),
    ]
    lines = (await relay("status")).out.splitlines()
    assert ["the next message tries it", "next try 1970-01-01 00:16:40"] == [
        line.partition(", ")[2] for line in lines if line.startswith("    for ")
    ]


async def test_status_as_json_is_one_object(relay: Relay) -> None:
    """The API's own answer."""
    relay.served.refusing = "only 5 MB free"
    [found] = await relay.json("status")
    assert (False, "only 5 MB free") == (found["accepting"], found["reason"])
    assert "accepting mail: no (only 5 MB free)" in (await relay("status")).out


async def test_the_queue_as_a_table(relay: Relay) -> None:
    """An entry in one line; below it who waits, since when, and why; 80 columns."""
    entry = await relay.served.store("a@example.net", "b@example.net")
    await relay.served.attempt(entry, "a@example.net", DEFERRED)
    printed = await relay("queue")
    lines = printed.out.splitlines()
    assert "queue id        state      age      size  from" == lines[0]
    assert lines[1].startswith(f"{entry.queue_id}  active  ")
    assert lines[1].endswith(f"{len(MAIL)} B  <app@example.com>")
    assert [
        "    to <a@example.net>, 1 attempt by ses, next 2026-11-20 18:02:01",
        "        450 mailbox busy",
        "    to <b@example.net>",
    ] == lines[2:]
    assert max(map(len, lines)) <= 80


async def test_the_queue_as_json_is_one_object_per_line(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, page by page; --limit holds for JSON too."""
    monkeypatch.setattr(door, "PAGE", 2)
    ids = [(await relay.served.store("a@example.net")).queue_id for _ in range(5)]
    assert ids == [entry["queue_id"] for entry in await relay.json("queue", "list")]
    assert ids[:3] == [entry["queue_id"] for entry in await relay.json("queue", "list", "--limit", "3")]
    printed = await relay("queue", "--limit", "3")
    assert "the first 3 entries; for more: --limit N, or --json for all" == printed.out.splitlines()[-1]


async def test_an_empty_queue_says_so(relay: Relay) -> None:
    """A filter that matches nothing is told from an empty queue."""
    assert "nothing in the queue\n" == (await relay("queue")).out
    assert "nothing in the queue matches\n" == (await relay("queue", "--to", "x")).out


async def test_finished_and_corrupt_entries_can_be_listed(relay: Relay) -> None:
    """`--state` reaches what is not in the queue."""
    done, broken = await relay.served.store("a@example.net"), await relay.served.store("b@example.net")
    await relay.served.attempt(done, "a@example.net", SENT)
    await relay.served.spool.set_aside(broken.queue_id, "its body is missing", NOW)
    assert "    to <a@example.net>, relayed, 1 attempt by ses" in (await relay("queue", "--state", "finished")).out
    assert "its body is missing" in (await relay("queue", "--state", "corrupt")).out
    assert "1 set aside as corrupt" in (await relay("status")).out
    printed = await relay("queue", "show", broken.queue_id)
    assert exits.DATA == printed.code
    assert "set aside as corrupt" in printed.err


async def test_the_story_of_a_message(relay: Relay) -> None:
    """From whom, to whom, each attempt with provider, reply and remote id, the end."""
    entry = await relay.served.store("a@example.net", "b@example.net")
    await relay.served.attempt(entry, "a@example.net", SENT)
    maybe = Recorded(Outcome(Verdict.UNKNOWN, "4.4.2", "no answer", "mx[192.0.2.1]:25"), State.QUEUED, NOW + 60, since=NOW)
    await relay.served.attempt(entry, "b@example.net", maybe)
    printed = await relay("log", "one@web1")
    assert [
        f"{entry.queue_id}  accepted 2026-11-20 17:57:01 from localhost[127.0.0.1], listener local",
        f"  from <app@example.com>, {len(MAIL)} B, message-id <one@web1>",
        "  to <a@example.net>: relayed",
        "    2026-11-20 17:57:01  sent      route default, provider ses, mx.example.net[192.0.2.1]:25",
        "        250 ok (dsn 2.0.0, remote id remote-1)",
        "  to <b@example.net>: queued, next attempt 2026-11-20 17:58:01, may have been delivered already",
        "    2026-11-20 17:57:01  deferred  route default, provider ses, mx[192.0.2.1]:25",
        "        no answer (dsn 4.4.2)",
    ] == printed.out.splitlines()
    assert printed.out == (await relay("queue", "show", entry.queue_id[:9])).out
    assert "        may have been delivered already" in (await relay("queue")).out.splitlines()
    [found] = await relay.json("log", entry.queue_id)
    assert [found] == await relay.json("queue", "show", entry.queue_id)


async def test_who_waits_for_a_paused_provider(relay: Relay) -> None:
    """List and story say for whom, why and until when; the reason is the provider's where the recipient has none."""
    relay.served.providers = [ProviderStatus("postmark", "paused", "401 10 BadToken: no", "", NOW, NOW + 60, 1, 0)]
    entry = await relay.served.store("a@example.net")
    await relay.served.spool.claim(NOW, 10, 60)
    await relay.served.spool.wait(entry.queue_id, ["a@example.net"], "postmark", NOW + 5 * 86400, "postmark", "default")
    why = "waits for postmark: 401 10 BadToken: no; expires 2026-11-25 17:57:01"
    assert ["    to <a@example.net>", f"        {why}"] == (await relay("queue")).out.splitlines()[2:]
    assert f"  to <a@example.net>: queued, {why}" in (await relay("log", entry.queue_id)).out.splitlines()
    [found] = await relay.json("queue")
    assert [None] == [recipient["next_attempt"] for recipient in found["recipients"]]


async def test_more_than_one_message_found(relay: Relay) -> None:
    """Newest first, an empty line between; a very common term says that there is more."""
    ids = [(await relay.served.store("a@example.net")).queue_id for _ in range(21)]
    printed = await relay("log", "a@example.net")
    assert ids[:0:-1] == [line[:14] for line in printed.out.splitlines() if line.startswith("687E")]
    assert "there are more" in printed.err
    assert "" in printed.out.splitlines()


async def test_nothing_found(relay: Relay) -> None:
    """66, and what a term can be."""
    printed = await relay("log", "nobody@example.net")
    assert exits.NO_INPUT == printed.code
    assert "nothing is known about nobody@example.net" in printed.err


async def test_raw_headers_and_timeline(relay: Relay) -> None:
    """--raw is the stored message byte for byte when it goes to a file or a pipe."""
    entry = await relay.served.store("a@example.net")
    assert MAIL.decode() == (await relay("queue", "show", entry.queue_id, "--raw")).out
    assert MAIL.decode().partition("\r\n\r\n")[0] + "\r\n" == (await relay("queue", "show", entry.queue_id, "--headers")).out
    assert "no attempt yet\n" == (await relay("queue", "show", entry.queue_id, "--timeline")).out
    await relay.served.attempt(entry, "a@example.net", SENT)
    printed = await relay("queue", "show", entry.queue_id, "--timeline")
    assert printed.out.splitlines()[0].endswith("mx.example.net[192.0.2.1]:25, to <a@example.net>")
    assert ["remote-1"] == [step["remote_id"] for step in await relay.json("queue", "show", entry.queue_id, "--timeline")]
    printed = await relay("queue", "show", entry.queue_id, "--raw")
    assert exits.NO_INPUT == printed.code
    assert "is gone" in printed.err


async def test_retry_says_how_many(relay: Relay) -> None:
    """All that waits, or what is named."""
    entry = await relay.served.store("a@example.net", "b@example.net")
    await relay.served.attempt(entry, "a@example.net", DEFERRED)
    assert "1 recipient due now\n" == (await relay("queue", "retry", entry.queue_id, "--to", "a@*")).out
    assert exits.NO_INPUT == (await relay("queue", "retry", "FFFF")).code
    assert exits.USAGE == (await relay("queue", "retry", "--id", "")).code
    assert 0 == (await relay("queue", "retry")).code


async def test_delete_asks(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints the count; anything but yes leaves the queue alone; without a terminal it wants --yes."""
    entry = await relay.served.store("a@example.net", "b@example.net")
    printed = await relay("queue", "delete", "--to", "*@example.net")
    assert exits.USAGE == printed.code
    assert "--yes" in printed.err
    asked: list[str] = []

    def answers(answer: str) -> Callable[[str], str]:
        def reply(question: str) -> str:
            asked.append(question)
            return answer

        return reply

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", answers(""))
    assert "relay: nothing was done\n" == (await relay("queue", "delete", "--all")).err
    monkeypatch.setattr("builtins.input", answers("y"))
    assert "1 recipient deleted\n" == (await relay("queue", "delete", "--to", "a@*")).out
    assert [
        "delete 2 recipients? Nobody is told, no bounce is sent. [y/N] ",
        "delete 1 recipient? Nobody is told, no bounce is sent. [y/N] ",
    ] == asked
    assert "1 recipient deleted\n" == (await relay("queue", "delete", entry.queue_id, "--yes")).out
    assert 0 == (await relay.served.spool.counts()).entries


async def test_a_deletion_is_part_of_the_story(relay: Relay) -> None:
    """The log and the timeline say who took the recipient out."""
    entry = await relay.served.store("a@example.net")
    await relay("queue", "delete", entry.queue_id, "--yes")
    lines = (await relay("log", entry.queue_id)).out.splitlines()
    assert ["  to <a@example.net>: deleted", "    2026-11-20 17:57:01  deleted   by the admin"] == lines[2:4]
    printed = await relay("queue", "show", entry.queue_id, "--timeline")
    assert "2026-11-20 17:57:01  deleted   by the admin, to <a@example.net>\n" == printed.out


async def test_what_is_under_way_is_not_deleted(relay: Relay) -> None:
    """A leased recipient stays, and the answer says so."""
    await relay.served.store("a@example.net")
    await relay.served.spool.claim(NOW, 10, 60)
    printed = await relay("queue", "delete", "--all", "--yes")
    assert "0 recipients deleted; 1 under way just now\n" == printed.out


async def test_a_test_message_is_sent_off(relay: Relay) -> None:
    """Without --wait it says how to look; a refusal is told."""
    printed = await relay("test", "me@example.net", "--from", "app@example.com")
    assert printed.out.startswith("accepted  687E")
    assert "what becomes of it: relay log 687E" in printed.out
    printed = await relay("test", "nobody")
    assert (exits.USAGE, "relay: to: 'nobody' is not an address mail can be sent to\n") == (printed.code, printed.err)
    relay.served.refusing = "only 5 MB free"
    assert exits.TRY_LATER == (await relay("test", "me@example.net")).code


@pytest.mark.parametrize(
    ("recorded", "code", "said"),
    [
        (SENT, exits.OK, "sent      ses  "),
        (
            Recorded(Outcome(Verdict.PERM_RCPT, "5.1.1", "550 unknown", "mx[192.0.2.1]:25"), State.FAILED),
            exits.UNAVAILABLE,
            "bounced   ses  ",
        ),
        (DEFERRED, exits.TRY_LATER, "deferred  ses  "),
    ],
)
async def test_a_test_message_is_waited_for(
    relay: Relay, monkeypatch: pytest.MonkeyPatch, recorded: Recorded, code: int, said: str
) -> None:
    """Each outcome is printed as it comes; the last one decides the exit code."""
    monkeypatch.setattr(trial, "POLL", 0.01)
    monkeypatch.setattr(trial, "WAIT", 0.3 if code == exits.TRY_LATER else 10.0)
    relay.served.now = NOW

    async def deliver() -> None:
        due = asyncio.Event()
        relay.served.spool.on_due(due.set)
        await due.wait()
        [entry] = await relay.served.spool.claim(NOW, 10, 60)
        number = await relay.served.spool.begin(entry.queue_id, ["me@example.net"], "ses", "default", NOW)
        await relay.served.spool.record(entry.queue_id, number, {"me@example.net": recorded}, "ses", "default", NOW)

    delivery = asyncio.create_task(deliver())
    printed = await relay("test", "me@example.net", "--wait")
    await delivery
    assert code == printed.code
    assert said in printed.out


async def test_a_test_message_that_waits_for_a_paused_provider(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said at once, with the reason of the pause, and only once."""
    monkeypatch.setattr(trial, "POLL", 0.01)
    monkeypatch.setattr(trial, "WAIT", 0.3)
    relay.served.providers = [ProviderStatus("postmark", "paused", "401 10 BadToken: no", "", NOW, NOW + 60, 1, 0)]

    async def set_aside() -> None:
        due = asyncio.Event()
        relay.served.spool.on_due(due.set)
        await due.wait()
        [entry] = await relay.served.spool.claim(NOW, 10, 60)
        await relay.served.spool.wait(entry.queue_id, ["me@example.net"], "postmark", NOW + 86400, "postmark", "default")

    delivery = asyncio.create_task(set_aside())
    printed = await relay("test", "me@example.net", "--wait")
    await delivery
    assert exits.TRY_LATER == printed.code
    assert ["waits     postmark  T s  paused: 401 10 BadToken: no"] == [
        re.sub(r"[0-9.]+ s ", "T s ", line) for line in printed.out.splitlines()[1:]
    ]


async def test_a_reload_says_what_changed(relay: Relay) -> None:
    """0 and what changed; 78 and every mistake where the old configuration stays."""
    printed = await relay("reload")
    assert (0, "reloaded: provider ses changed\n", "") == (printed.code, printed.out, printed.err)
    relay.served.problems = ("relay.yaml:1:1: one", "relay.yaml:2:1: two")
    printed = await relay("reload")
    assert (exits.CONFIG, "") == (printed.code, printed.out)
    assert "relay.yaml:1:1: one\n\nrelay.yaml:2:1: two\nrelay: reload refused, the old configuration stays: 2 mistakes\n" == printed.err


async def test_a_daemon_that_is_down_reloads_nothing(relay: Relay) -> None:
    """69 and how to start it; one without a configuration says so."""
    await relay.served.admin.stop()
    printed = await relay("reload")
    assert exits.UNAVAILABLE == printed.code
    assert "only the daemon can do that. Start it: relay serve -c" in printed.err
    assert exits.UNAVAILABLE == (await relay("log", "tail")).code


LINES = (
    '{"event": "queued", "queue_id": "687E", "line": "Nov 20 relay/qmgr: 687E: from=<a@example.com>"}',
    '{"event": "sent", "to": "Bob@example.net", "line": "Nov 20 relay/smtp: 687E: sent"}',
)


async def tailed(relay: Relay, *arguments: str) -> Printed:
    """What `relay log tail` prints of LINES before the daemon ends."""
    following = asyncio.create_task(relay("log", "tail", *arguments))
    async with asyncio.timeout(10):
        while not relay.served.log.listening:
            await relay.served.ask("GET", "/healthz")
    for line in LINES:
        relay.served.log.put(line)
    await relay.served.admin.stop()
    return await following


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ["Nov 20 relay/qmgr: 687E: from=<a@example.com>", "Nov 20 relay/smtp: 687E: sent"]),
        (("bob@",), ["Nov 20 relay/smtp: 687E: sent"]),
        (("A@EXAMPLE",), ["Nov 20 relay/qmgr: 687E: from=<a@example.com>"]),
        (("--json",), ['{"event": "queued", "queue_id": "687E"}', '{"event": "sent", "to": "Bob@example.net"}']),
        (("nothing",), []),
    ],
)
async def test_the_log_as_it_is_written(relay: Relay, arguments: tuple[str, ...], expected: list[str]) -> None:
    """Text lines, or their facts; only those that hold the term. The end of the daemon is an end in order."""
    printed = await tailed(relay, *arguments)
    assert (0, "relay: the daemon has ended\n") == (printed.code, printed.err)
    assert expected == printed.out.splitlines()


async def test_a_daemon_that_is_killed_ends_the_log(relay: Relay, tmp_path: Path) -> None:
    """What was said until then is printed, and nothing of it is a bug."""

    async def dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readline():
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" + b'{"line": "one"}\n\r\n5\r\n{"l')
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(dies, "127.0.0.1", 0)
    async with server:
        other = Relay(relay.served, configuration(tmp_path, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"), relay._captured)
        printed = await other("log", "tail")
    assert (0, "one\n", "relay: the daemon has ended\n") == (printed.code, printed.out, printed.err)


async def test_following_the_log_ends_with_ctrl_c(relay: Relay) -> None:
    """Exit code 0 and no word."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", "log", "tail", "-c", str(relay._config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(20):
        while not relay.served.log.listening:
            await relay.served.ask("GET", "/healthz")
        relay.served.log.put(LINES[0])
        assert process.stdout is not None
        assert b"Nov 20 relay/qmgr: 687E: from=<a@example.com>\n" == await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert (b"", b"") == await process.communicate()
    assert 0 == process.returncode


async def test_a_daemon_on_tcp_and_one_that_answers_nonsense(relay: Relay, tmp_path: Path) -> None:
    """`admin.listen` may be a port; what is not our API is told from an error of ours."""
    over_tcp = Relay(relay.served, configuration(tmp_path, f"127.0.0.1:{relay.served.port}"), relay._captured)
    assert 0 == (await over_tcp("status")).code

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if line:
            await reader.readuntil(b"\r\n\r\n")
            answers = {
                b"status": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
                b"log": b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n",
            }
            writer.write(next((answer for word, answer in answers.items() if word in line), b"garbage\r\n"))
        writer.close()

    server = await asyncio.start_server(nonsense, "127.0.0.1", 0)
    async with server:
        other = Relay(relay.served, configuration(tmp_path, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"), relay._captured)
        printed = await other("status")
        assert exits.BUG == printed.code
        assert "is that address the admin API of relay?" in printed.err
        printed = await other("log", "x")
        assert (exits.BUG, "relay: the daemon answered 502\n") == (printed.code, printed.err)
        printed = await other("log", "tail")
        assert (exits.BUG, "relay: the daemon answered 502\n") == (printed.code, printed.err)
        printed = await other("queue")
        assert exits.TRY_LATER == printed.code
        assert "broke off" in printed.err


# Against a daemon that is down.


async def test_a_stopped_daemons_spool_can_be_read(relay: Relay) -> None:
    """The same answers as from the daemon, with a note; what changes something is refused."""
    entry = await relay.served.store("a@example.net")
    await relay.served.attempt(entry, "a@example.net", dataclasses.replace(DEFERRED, next_attempt=NOW + 1e9))
    alive = {verb: await relay(*verb.split()) for verb in ("queue --json", f"log {entry.queue_id}", f"queue show {entry.queue_id} --raw")}
    await relay.served.admin.stop()
    for verb, before in alive.items():
        printed = await relay(*verb.split())
        assert (0, before.out) == (printed.code, printed.out)
        assert 1 == printed.err.count("the daemon is not running")
    printed = await relay("status")
    assert (exits.UNAVAILABLE, "accepting mail: no") == (printed.code, printed.out.splitlines()[0])
    assert 1 == (printed.out + printed.err).count("the daemon is not running")
    assert exits.UNAVAILABLE == (await relay("status", "--json")).code
    assert "nothing in the queue" in (await relay("queue", "--state", "corrupt")).out
    printed = await relay("queue", "delete", "--all", "--yes")
    assert exits.UNAVAILABLE == printed.code
    assert f"only the daemon can do that. Start it: relay serve -c {relay._config}\n" in printed.err


async def test_without_the_daemon_the_api_changes_nothing(relay: Relay, tmp_path: Path) -> None:
    """Even asked directly: exactly one process writes the spool."""
    status, body = await offline.answer(tmp_path / "spool", "POST", "/api/v1/queue/retry", {})
    assert (503, {"error": "the daemon is not running"}) == (status, json.loads(body))
    for method, path in (("POST", "/api/v1/reload"), ("GET", "/api/v1/log/tail")):
        status, body = await offline.answer(tmp_path / "spool", method, path, {})
        assert 503 == status
        assert "the daemon is not running" in json.loads(body)["error"]


async def test_a_spool_beside_which_nothing_can_be_written(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """77 and what to do: reading makes a file, which a read-only mount does not let happen (here its answers are played)."""

    def refuses(directory: Path) -> None:
        raise SpoolError("the spool cannot be used: unable to open database file (SQLITE_CANTOPEN)")

    await relay.served.admin.stop()
    monkeypatch.setattr(offline, "Reader", refuses)
    assert exits.TRY_LATER == (await relay("status")).code
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    printed = await relay("status")
    assert exits.PERMISSION == printed.code
    assert "use sudo, or copy the directory to where you may write and name the copy in queue.spool" in printed.err


def test_a_spool_one_may_not_look_into(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """77: the daemon is down and its spool is for its owner."""

    def refuses(self: Path) -> bool:
        raise PermissionError

    monkeypatch.setattr(door, "config_file", lambda *_: None)
    monkeypatch.setattr(Path, "exists", refuses)
    assert exits.PERMISSION == main(["status"])
    assert "Try sudo" in capsys.readouterr().err


# Lines for people.


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (None, "?"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (10_234, "10.2 kB"),
        (99_949, "99.9 kB"),
        (999_600, "1.0 MB"),
        (25_000_000, "25.0 MB"),
        (10**15, "1000 TB"),
    ],
)
def test_sizes(octets: int | None, expected: str) -> None:
    """Three digits and a unit."""
    assert expected == show.size(octets)


@pytest.mark.parametrize(
    ("seconds", "expected"), [(-5, "0s"), (35, "35s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (90_000, "1d")]
)
def test_ages(seconds: int, expected: str) -> None:
    """One number and one unit."""
    assert expected == show.age("2026-11-20T17:57:01.250Z", NOW + seconds)


def test_what_is_unknown_is_a_question_mark() -> None:
    """A corrupt entry has neither time nor size."""
    assert ("?", "?", "<>") == (show.age(None, NOW), show.local(None), show.address(None))


def test_colour_only_where_it_is_wanted() -> None:
    """A state word has its colour on a terminal, padded to its column."""
    assert ("\033[31mpaused   \033[0m", "paused   ", "word") == (
        show.Paint(True)("paused", 9),
        PLAIN("paused", 9),
        show.Paint(True)("word"),
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", [""]),
        ("short", ["short"]),
        ("two  words", ["two  words"]),
        ("  one two  three four", ["  one two", "    three", "    four"]),
        ("  averyveryverylongword x", ["  averyveryverylongword", "    x"]),
        ("\033[32msent    \033[0m x y", ["\033[32msent    \033[0m x", "  y"]),
    ],
)
def test_long_lines_are_wrapped_at_words(line: str, expected: list[str]) -> None:
    """With a hanging indent; colours take no room, and a word is never cut."""
    assert expected == list(show.wrapped(line, 10))


async def test_only_a_terminal_gets_wrapped_lines(monkeypatch: pytest.MonkeyPatch, relay: Relay) -> None:
    """Programs that read a pipe find every fact on one line."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    await relay.served.store("a@example.net")
    piped = (await relay("log", "one@web1")).out
    assert max(map(len, piped.splitlines())) > 40
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    shown = (await relay("log", "one@web1")).out
    assert max(map(len, shown.splitlines())) <= 40
    assert piped.split() == shown.split()


def test_a_terminal_gets_no_control_characters() -> None:
    """Stored mail is shown, not obeyed; a pipe gets the octets as they are."""
    data = b"Subject: \x1b[2Jx\r\n\r\nbody\xff\x07\r\n"
    assert data == show.octets(data, False)
    assert "Subject: ?[2Jx\n\nbody\ufffd?\n".encode() == show.octets(data, True)


def test_a_story_shows_what_is_special() -> None:
    """Bounces, fixed providers, a first attempt that is still to come, decisions of our own, the end."""
    entry = {
        "queue_id": "687E7641C64007",
        "arrival_time": "2026-11-20T17:57:01.250Z",
        "client": {"name": "\x1b]0;x", "address": "unix", "listener": "local"},
        "sender": "",
        "message_size": 10,
        "message_id": "",
        "bounce": True,
        "via": ["ses"],
        "finished_time": "2026-11-20T17:57:02.250Z",
        "recipients": [
            {"address": "a", "state": "queued", "attempts": 0, "delay_reason": "", "expires": None},
            {"address": "b", "state": "held", "attempts": 0, "delay_reason": "x", "expires": None},
        ],
    }
    step = {"recipient": "b", "route": "", "provider": "", "verdict": "RETRY", "state": "held", "time": entry["finished_time"]}
    steps = [{**step, "remote": "relay", "reply": "held by an admin", "status": "4.0.0", "remote_id": ""}]
    assert [
        "687E7641C64007  accepted 2026-11-20 17:57:01 from ?]0;x[unix], listener local",
        "  from <>, 10 B, message-id none",
        "  made by relay itself: it tells a sender what could not be delivered",
        "  fixed to ses, whatever the routes say",
        "  to <a>: waits for its first attempt",
        "  to <b>: held",
        "    2026-11-20 17:57:02  held      relay",
        "        held by an admin (dsn 4.0.0)",
        "  finished 2026-11-20 17:57:02",
    ] == list(show.story(entry, steps, PLAIN))


# What is written about it.

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
