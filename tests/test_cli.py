"""The command line: what can be typed, how a command begins and fails, which exit code ends it."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from relay import __version__, daemon
from relay.cli import door, exits
from relay.cli.main import VERBS, _have_streams, main
from relay.cli.parser import filters, parser
from relay.cli.verbs import about
from relay.errors import ConfigError, RelayError, SpoolBusy, SpoolError, Unavailable
from tests.commands import write

pytestmark = pytest.mark.usefixtures("nothing_of_this_host")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("chekc", 'unknown "chekc"; did you mean "check"?\nTry: relay --help'),
        ("queue dleete", 'unknown "dleete"; did you mean "delete"?\nTry: relay queue --help'),
        ("queue xyz", 'unknown "xyz"; known: list, show, retry, hold, release, reroute, bounce, delete'),
        ("queue list --state defered", 'unknown "defered"; did you mean "deferred"?'),
        ("queue list --older 5", "'5' is not a time; write 30s, 5m, 2h or 5d"),
        ("queue list --limit 0", "--limit wants a number from 1"),
        ("queue show", "the following arguments are required: ID"),
        ("queue show A --raw --headers", "not allowed with"),
        ("queue show ../../x", "'../../x' is not a queue id"),
        ("queue retry A --id B", "give the ids one way"),
        ("queue delete", "say which: ids, filters, or --all"),
        ("queue bounce", "say which: ids, filters, or --all"),
        ("queue reroute --via ses", "say which: ids, filters, or --all"),
        ("queue reroute --all", "one of the arguments --via --by-routes is required"),
        ("queue reroute --all --via ses --by-routes", "not allowed with"),
        ("queue reroute --all --via ses,", "--via wants providers' names: --via ses, or --via ses,postmark"),
        ("provider pause", "the following arguments are required: NAME"),
        ("provider puase x", 'unknown "puase"; did you mean "pause"?'),
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
        ("status --verbose", "unrecognized arguments: --verbose\nTry: relay status --help\n"),
        ("provider list --all", "unrecognized arguments: --all\nTry: relay provider list --help\n"),
        ("provider lst", 'unknown "lst"; did you mean "list"?\nTry: relay provider --help\n'),
        ("queue delete --force", "unrecognized arguments: --force\nTry: relay queue delete --help\n"),
        ("help chekc", 'unknown "chekc"; did you mean "check"?\nTry: relay --help\n'),
        ("--verbose", "unrecognized arguments: --verbose\nTry: relay --help\n"),
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


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_fits_a_terminal(verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """80 columns, whatever is asked about."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([*(word for word in verb.split() if word != "tail"), "--help"])
    assert [] == [line for line in capsys.readouterr().out.splitlines() if len(line) > 80]


@pytest.mark.parametrize("words", [[], ["provider"], ["queue", "delete"], ["log", "tail"], ["help"]])
def test_the_help_of_a_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`relay help COMMAND` prints what `relay COMMAND --help` does."""
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    shown = capsys.readouterr().out
    assert exits.OK == main(["help", *words])
    assert shown == capsys.readouterr().out


def test_the_help_names_what_there_is_of_providers(capsys: pytest.CaptureFixture[str]) -> None:
    """Who looks for what can be done with a provider finds it without knowing the word."""
    main(["help"])
    shown = capsys.readouterr().out
    assert [True, True, True] == [f"\n  relay {typed} " in shown for typed in ("provider list", "provider test", "help provider test")]


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
