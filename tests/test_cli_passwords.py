"""`relay passwd` and `relay smtp-password`: passwords of users, and the one of Amazon SES."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from relay.cli import exits
from relay.cli.main import main
from relay.transports import presets
from relay.users import Users
from tests.commands import write

pytestmark = pytest.mark.usefixtures("nothing_of_this_host")


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


def test_a_region_is_checked_before_a_password_is_made_of_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The password of a misspelled region would be refused by SES, and nobody could see why."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{SES_SECRET}\n{SES_SECRET}\n"))
    assert exits.USAGE == main(["smtp-password", "--region", "ireland"])
    assert ("", 'relay: --region: "ireland" is not an AWS region\n') == capsys.readouterr()
    assert exits.OK == main(["smtp-password", "--region", "eu-west-9"])
    out, err = capsys.readouterr()
    assert presets.ses_smtp_password(SES_SECRET, "eu-west-9") == out.strip()
    assert 'relay: "eu-west-9" is not a region of SES that relay knows of\n' == err
