"""The configuration: what is good loads as written, and every mistake is found, placed, and shown without secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import config, routing
from relay.config import marks, values
from relay.config.model import Root
from relay.config.problems import Report
from relay.config.providers import PROVIDERS
from relay.config.rules import CaseConfig, MatchConfig, RampConfig, RouteConfig, StepBackConfig
from relay.config.section import keys_of
from relay.errors import ConfigError
from tests.configs import POSTMARK, problems_of, written
from tests.servers import ca_file

CANARY = "canary-secret-0000"
TOKEN = "00000000-0000-4000-8000-00000000cafe"  # of a provider whose token is the name to log in with


@pytest.fixture(autouse=True)
def _hostname(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a domain, whatever this host is called."""
    monkeypatch.setattr("socket.gethostname", lambda: "relay.example.com")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a configuration that only its owner can read."""

    return partial(written, tmp_path)


def smtp(keys: str) -> str:
    return f"providers:\n  smarthost: {{type: smtp, host: mail.example.net, {keys}}}\n"


def postmark(keys: str) -> str:
    return f"providers:\n  postmark: {{token: fake-token-0000, {keys}}}\n"


def route(keys: str) -> str:
    return f"{POSTMARK}routes:\n  - {{name: a, via: postmark, {keys}}}\n  - {{name: rest, via: postmark}}\n"


def listen(item: str) -> str:
    return f"{POSTMARK}listen:\n  - {item}\n"


def _mistakes() -> dict[str, tuple[str, str]]:
    """Name -> (text of a file with one mistake, all that is said of it), from blocks `#### name`, text, `----`, answer."""
    blocks = re.split(r"(?m)^#### ", (Path(__file__).parent / "data/config/mistakes.txt").read_text())[1:]
    parts = ((block.partition("\n")[0], block.partition("\n")[2].partition("\n----\n")) for block in blocks)
    return {name: (text + "\n", answer.strip()) for name, (text, _, answer) in parts}


MISTAKES = _mistakes()
MORE = {
    **dict.fromkeys(("token stuck to its key", "ramp with an end"), 2),  # a misspelling that also leaves a key missing
    "three ways": 2,
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_placed_shown_and_mended(write: Callable[[str], Path], name: str) -> None:
    """One mistake gives one problem: place, key, text, line, caret, mend."""
    text, answer = MISTAKES[name]
    found = problems_of(write(text), TOKEN_X="x", EMPTY="", LINES="a\nb")
    assert answer == "\n\n".join(f"relay.yaml:{problem}" for problem in found)
    assert MORE.get(name, 1) == len(found)


ODD = {
    "empty": ("", "providers: no provider is configured"),
    "NUL": ("hostname: a\0b\n", "1:12: the control character 0x00 is not allowed"),
    "not UTF-8": ("log: {}\nhostname: \udcff\n", "2:11: this is not UTF-8 text"),
    "nested": (f"hostname: {'[' * 30}{']' * 30}\n{POSTMARK}", f"1:31: hostname.{'0.' * 19}0: this is nested more than 20 deep"),
    "surrogate": (f'hostname: "\\ud800"\n{POSTMARK}', "1:11: hostname: 1 characters on, the value holds a control character"),
    "YAML of another version": (f"%YAML 3.0\n---\n{POSTMARK}", "1:1: found incompatible YAML document (version 1.* is required)"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_is_refused(write: Callable[[str], Path], name: str) -> None:
    """What cannot be written in a readable table: octets and depths that are no configuration."""
    text, headline = ODD[name]
    assert headline in [problem.splitlines()[0].strip() for problem in problems_of(write(text))]


MANY = """\
version: 2
hostnam: relay.example.com
listen:
  - {name: local, address: "0.0.0.0:25"}
  - {name: local, address: "127.0.0.1:2525", max_size: 40M}
providers:
  postmark:
    tokn: canary-secret-0000
    timeout: 30
  mailtrp: {}
  smarthost:
    type: smtp
    host: mail.example.net
    tls: none
    username: relay
    password: "canary-secret-0000"
    port: 99999
    port: 25
  other: {type: smtp, password: "${env:NOPE}"}
routes:
  - {name: a, match: {from: example.com, client: 10.0.0.1/8}, via: postmrk}
queue: {retry: [], expire: 5x}
bounce: {from: nobody}
log: {level: inf}
"""
MANY_KEYS = """\
1 version|2 hostnam|4 listen.0.address|5 listen.1.name|5 listen.1.max_size|8 providers.postmark.tokn|
9 providers.postmark.timeout|10 providers.mailtrp|14 providers.smarthost.tls|17 providers.smarthost.port|18|19 providers.other.host|
19 providers.other.password|21 routes.0.match.from.0|21 routes.0.match.client.0|21 routes.0.via.0|22 queue.retry|22 queue.expire|
23 bounce.from|24 log.level"""


def test_all_mistakes_are_told_in_one_run_in_the_order_of_the_file(write: Callable[[str], Path]) -> None:
    """One bad key hides no other, whatever section it is in, and no secret is printed."""
    found = problems_of(write(MANY))
    told = [re.sub(r"^(\d+):\d+: (?:([\w.]+):)?.*", r"\1 \2", problem.splitlines()[0]).strip() for problem in found]
    assert MANY_KEYS.replace("\n", "").split("|") == told
    assert CANARY not in "\n".join(found)


def test_every_tab_is_told(write: Callable[[str], Path]) -> None:
    """A file indented with tabs names every line of them."""
    found = problems_of(write("providers:\n\tpostmark:\n\t\ttoken: x\n"))
    assert ["2:1: tabs cannot indent", "3:1: tabs cannot indent"] == [problem.splitlines()[0] for problem in found]


def test_a_file_that_others_can_read_is_refused(write: Callable[[str], Path]) -> None:
    """A configuration readable by others is a mistake beside the others; readable by its group it is right."""
    path = write(f"{POSTMARK}log: {{level: inf}}\n")
    path.chmod(0o644)
    first, second = problems_of(path)
    assert f" others can read or change this file (mode 0644)\n     = chmod 640 {path}" == first
    assert second.startswith("2:14: log.level")
    path = write(POSTMARK)
    path.chmod(0o644)
    assert config.load(path, environ={}, for_sending=False).providers  # nothing is sent, and nobody is told a secret
    path.chmod(0o640)
    assert ("postmark",) == tuple(config.load(path, environ={}).providers)


def test_a_secret_file_that_others_can_read_is_refused(write: Callable[[str], Path], tmp_path: Path) -> None:
    """A secret's file has the same rule, and its content is not told."""
    secret = tmp_path / "token"
    secret.write_text(f"{CANARY}\n")
    secret.chmod(0o644)
    path = write(f"providers: {{postmark: {{token: '${{file:{secret}}}'}}}}\n")
    (found,) = problems_of(path)
    assert f"1:31: providers.postmark.token: file ({secret}) can be read by others (mode 0644)" == found.splitlines()[0]
    secret.chmod(0o640)
    provider = config.load(path, environ={}).providers["postmark"]
    assert isinstance(provider, config.PostmarkProvider)
    assert provider.token
    assert CANARY == provider.token.get_secret_value()


def test_a_secret_file_by_a_wrong_name_is_guessed(write: Callable[[str], Path], tmp_path: Path) -> None:
    """As a misspelt variable is: the file that is there is named."""
    (tmp_path / "postmark").write_text(CANARY)
    found = problems_of(write(f"providers: {{postmark: {{token: '${{file:{tmp_path}/postmrk}}'}}}}\n"))
    assert [f'     = did you mean "{tmp_path}/postmark"?'] == [problem.splitlines()[-1] for problem in found]


def test_a_secret_file_that_must_not_be_read_is_a_matter_of_its_mode(
    write: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permission denied says whom to let in (root may read everything, so the system's answer is played)."""

    def refuse(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied")

    path = write(f"providers: {{postmark: {{token: '${{file:{tmp_path}/postmark}}'}}}}\n")
    monkeypatch.setattr(os, "open", refuse)
    (found,) = problems_of(path)
    assert f"providers.postmark.token: cannot read file ({tmp_path}/postmark): Permission denied" in found.splitlines()[0]
    assert (
        "     = let the user who runs relay read it, and nobody beyond its group: mode 640, group of the service" == found.splitlines()[-1]
    )


def test_a_credential_that_is_not_there_is_told_with_the_units_line(write: Callable[[str], Path], tmp_path: Path) -> None:
    """Inside the service a credential comes from the unit."""
    (found,) = problems_of(write('providers: {postmark: {token: "${cred:nope}"}}\n'), CREDENTIALS_DIRECTORY=str(tmp_path))
    assert "     = LoadCredential=nope:/path in the unit" == found.splitlines()[-1]


def test_a_secret_that_is_not_text_is_refused(write: Callable[[str], Path], tmp_path: Path) -> None:
    """A binary secret is named, not shown."""
    secret = tmp_path / "token"
    secret.write_bytes(b"\xff\xfe\x00")
    secret.chmod(0o600)
    (found,) = problems_of(write(f"providers: {{postmark: {{token: '${{file:{secret}}}'}}}}\n"))
    assert f"1:31: providers.postmark.token: file ({secret}) is not UTF-8 text" == found.splitlines()[0]


def test_a_secret_has_a_largest_size(write: Callable[[str], Path], tmp_path: Path) -> None:
    """A file of another kind that was named by mistake is not read as a whole."""
    secret = tmp_path / "token"
    secret.write_bytes(b"x" * 65_537)
    secret.chmod(0o600)
    (found,) = problems_of(write(f"providers: {{postmark: {{token: '${{file:{secret}}}'}}}}\n"))
    assert f"1:31: providers.postmark.token: file ({secret}) is larger than 65536 octets" == found.splitlines()[0]


@pytest.mark.timeout(20)
def test_a_fifo_is_not_waited_for(write: Callable[[str], Path], tmp_path: Path) -> None:
    """A secret's file and a file of certificates are regular files; nobody may ever write into a FIFO."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    (found,) = problems_of(write(f"providers: {{postmark: {{token: '${{file:{fifo}}}'}}}}\n"))
    assert f"1:31: providers.postmark.token: file ({fifo}) is not a regular file" == found.splitlines()[0]
    assert "     = name a file that holds nothing but the secret" == found.splitlines()[-1]
    (found,) = problems_of(write(smtp(f"ca_file: {fifo}")))
    assert f"providers.smarthost.ca_file: {fifo} is not a regular file" in found


def test_a_missing_or_unreadable_file_has_its_own_exit_code(tmp_path: Path) -> None:
    """No file is 66, no permission 77, anything else 78."""
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path / "nope.yaml", environ={})
    assert (66, (f"{tmp_path}/nope.yaml: there is no such file",)) == (caught.value.exit_code, caught.value.problems)
    with pytest.raises(ConfigError) as caught:
        config.load(tmp_path, environ={})
    assert (78, (f"{tmp_path}: cannot be read: Is a directory",)) == (caught.value.exit_code, caught.value.problems)


def test_a_file_that_must_not_be_read_is_a_matter_of_permission(write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Permission denied gives exit code 77 (root may read everything, so the system's answer is played)."""

    def refuse(self: Path, mode: str = "r") -> None:
        raise PermissionError(13, "Permission denied")

    path = write(POSTMARK)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError) as caught:
        config.load(path, environ={})
    assert (77, (f"{path}: permission denied",)) == (caught.value.exit_code, caught.value.problems)


def test_a_huge_file_is_refused(write: Callable[[str], Path]) -> None:
    """A configuration has at most 1 MiB."""
    (found,) = problems_of(write("#" * (1024 * 1024 + 1)))
    assert "the file holds more than 1048576 octets, the most that a configuration has" == found.strip()


def test_brackets_without_end_are_refused(write: Callable[[str], Path]) -> None:
    """Nesting beyond what Python can follow is a mistake, not a crash."""
    (found,) = problems_of(write("[" * 3000))
    assert "brackets or lists are nested more than 20 deep" == found.strip()


def test_credentials_are_not_checked_by_hand(write: Callable[[str], Path], tmp_path: Path) -> None:
    """Outside the service a credential is a warning, and nothing is said of what follows from it; inside it is read."""
    path = write(smtp('port: "${cred:port}", username: u, password: "${cred:smarthost}", tls: nix'))
    with pytest.raises(ConfigError) as caught:
        config.load(path, environ={}, inside_service=False)
    assert 1 == len(caught.value.problems)
    path = write(smtp('username: u, password: "${cred:smarthost}"'))
    loaded = config.load(path, environ={}, inside_service=False)
    assert (f"{path}:2:74: providers.smarthost.password: not checked here (only set inside the service)",) == loaded.warnings
    (tmp_path / "smarthost").write_text(CANARY)
    loaded = config.load(path, environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert (CANARY,) == loaded.secrets()
    assert () == loaded.warnings
    assert CANARY not in repr(loaded)


PLACES = [
    f"providers:\n  smtp:\n    password: ''{CANARY}'\n    strem: x\n",
    f"providers:\n  postmark:\n    token {CANARY}\n    stream: x\n",
    f"providers:\n  postmark:\n    token={CANARY}\n    stream: x\n",
    f"providers:\n  postmark:\n    tok en: {CANARY}\n    strem: x\n",
    f"providers:\n  smtp: {{host: x, password '{CANARY}', strem: x}}\n",
    f"providers:\n  smtp: {{host: '${{env:X}}', \"password\" : {CANARY}, strem: x}}\n",
    smtp(f"passwrd: {CANARY}"),
    smtp(f'password: "{CANARY} \\x07"'),
    smtp(f"password: [{CANARY}]"),
    smtp(f"username: u, password: '{CANARY}''x\n   {CANARY}', tls: nix"),
    f"providers:\n  postmark:\n    token: {CANARY}, {CANARY}\n    strem: x\n",
    f"providers:\n  postmark:\n    token: |\n      {CANARY}\n    strem: x\n",
    f"providers:\n  postmark:\n    token: >-\n\n      {CANARY}\n      {CANARY}\n    : x\n",
    f"providers:\n  postmark:\n    token:\n      {CANARY}\n    strem: x\n",
    f'providers:\n  postmark:\n    token: "{CANARY}\n    strem: x\n',
    f"providers: {{postmark: {{token: {CANARY}, strem: x}}}}\n",
    f"providers: {{postmark: {{token:{CANARY}}}}}\n",
    f'providers: {{postmark: {{token: "${{env:X}}{CANARY}", strem: x}}}}\n',
    f"providers: {{postmark: {{token: ${{{CANARY}}}, strem: x}}}}\n",
    "providers: {postmark: {token: \"${env:CANARY}\", strem: '${env:CANARY}'}}\n",
    f"providers: {{postmark: {{token: x, base_url: 'https://u:{CANARY}@example.com'}}}}\n",
    smtp(f"password: {CANARY}, tls: ]"),
    f'providers:\n  smtp: {{password: "x\n{CANARY}", strem: x}}\n',
    f"providers:\n  smtp: {{password: '{CANARY}\n{CANARY}\n",
    smtp("port: '${env:CANARY}', tls: '${env:CANARY}', timeout: '${env:CANARY}'"),
    "providers: {smtp: {host: '${env:CANARY} x'}}\n",
    smtp("tls: none, username: u, password: x").replace("mail.example.net", "'${env:CANARY}'"),
    f"{POSTMARK}routes: [{{name: '${{env:CANARY}}', via: '${{env:CANARY}}'}}, {{name: '${{env:CANARY}}', via: x}}]\n",
    postmark("base_url: 'ftp://${env:CANARY}'"),
    listen(f"{{name: a, address: '127.0.0.1:25', tls: optional, key: {CANARY}, cert: x}}"),
    listen(f"{{name: a, address: '127.0.0.1:25', auth: 'app:{CANARY}', tls: x}}"),
    f"providers: {{mailtrap: {{mode: smtp, token: {CANARY}, stream: sandbox}}}}\n",
    f"providers: {{paubox: {{mode: api, api_key: {CANARY}}}}}\n",
    f"providers: {{paubox: {{api_key: x, username: x, auth_scheme: Bearer {CANARY}}}}}\n",
    f"providers: {{lowcodeapi: {{token: at_{CANARY}, base_url: 'https://api.lowcodeapi.com/awsses?api_token=at_{CANARY}'}}}}\n",
    f"providers: {{lowcodeapi: {{token: at_{CANARY}, base_url: 'ftp://api.lowcodeapi.com/at_{CANARY}/awsses', mode: smtp}}}}\n",
    f"providers:\n  lowcodeapi:\n    token: at_{CANARY}\n    base_url: api.lowcodeapi.com/awsses?x={CANARY}\n    mode: auto\n",
    postmark(f"base_url: 'ftp://example.com/?token={CANARY}'"),
    f"providers: {{mailtrap: {{token: x, sandbox_id: x, streams: {{a: b}}, tokn: {CANARY}}}}}\n",
    f"providers: {{ses: {{region: x, access_key_id: {CANARY}/x, secret_access_key: {CANARY} x, smtp_password: {CANARY}}}}}\n",
    f"providers: {{ses: {{region: x, access_key_id: {CANARY}, session_token: {CANARY}, profile: x}}}}\n",
    f"providers: {{postmark: {{mode: smtp, smtp_access_key: {CANARY}, smtp_secret_key: [{CANARY}]}}}}\n",
    f"providers:\n  postmark:\n    # the old token: {CANARY}\n    strem: x # the old key: {CANARY}\n",
    f"providers:\n  postmark:\n    token: {CANARY} # {CANARY}\n    strem: x\n",
    f"providers:\n  postmark: {{server_token: {CANARY}, Token: {CANARY}, postmark_token: {CANARY}}}\n",
    f"providers:\n  smarthost: {{tpye: smtp, pass: {CANARY}}}\n",
    f"provider:\n  postmark: {CANARY}\n",
    "providers: {mailtrap: {token: x, batch: '${env:CANARY}', limits: '${env:CANARY}', streams: '${env:CANARY}'}}\n",
    POSTMARK + f"senders: {{users: {{{TOKEN}: '*@x'}}}}\nroutes: [{{name: a, match: {{user: {TOKEN}}}, via: postmark}}]\n",
    POSTMARK + "log: '${env:CANARY}'\nsenders: '*@${env:CANARY}'\nqueue: '/${env:CANARY}'\n",
]


@pytest.mark.parametrize("text", PLACES)
def test_no_mistake_shows_a_secret(write: Callable[[str], Path], text: str) -> None:
    """Neither a secret in the file nor one that a reference stands for is printed, wherever the mistake is."""
    found = "\n".join(problems_of(write(text), CANARY=CANARY, X="x"))
    assert CANARY not in found
    assert TOKEN not in found
    assert found


def test_the_smallest_file(write: Callable[[str], Path]) -> None:
    """One provider with its token is a whole configuration."""
    loaded = config.load(write('providers: {postmark: {token: "${env:POSTMARK_TOKEN}"}}'), environ={"POSTMARK_TOKEN": "fake-token-0000"})
    provider = loaded.providers["postmark"]
    assert isinstance(provider, config.PostmarkProvider)
    assert provider.token
    assert "fake-token-0000" == provider.token.get_secret_value()
    assert (routing.Route("default", ("postmark",)),) == loaded.route_table()
    assert [("local", "127.0.0.1:25", 40_000_000)] == [(item.name, item.address, item.max_size) for item in loaded.listen]
    assert (60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0) == loaded.queue.retry
    assert (5 * 86400.0, Path("/var/lib/relay")) == (loaded.queue.expire, loaded.queue.spool)
    assert f"mailer-daemon@{loaded.hostname}" == loaded.bounce.sender
    assert loaded.hostname


FULL = """\
hostname: relay.example.com
listen:
  - {name: local, address: "[0:0::1]:0025", controls: []}
  - {name: sock, address: "unix:/run/relay/smtp.sock", max_size: 1.5MiB}
providers:
  a: {type: smtp, host: "[::1]", tls: none, username: 12345, password: 0123, limits: {concurrency: "3"}}
  b: {type: smtp, host: mail.example.net, tls: implicit, unknown_outcome: hold}
  c: {type: smtp, host: mail.example.net, tls: none, ca_file: CA}
  pm: {type: postmark, token: 12345678, track_opens: "false", track_links: None, base_url: "http://127.0.0.1:8080/x/"}
  capture:
  spare: {type: capture, directory: /tmp/spare}
routes:
  - name: one
    match:
      {from: ["<>", "*@Example.com"], to: [postmaster, "*@b.c"], client: [10.0.0.0/8, "::1"], listener: local, larger: 10MB,
       header: {List-Id: "*", X-A: [a, b]}}
    via: [a, b]
    patience: 0s
  - {name: two, match: {to: "x@y.z"}, via: c}
  - {name: rest, via: [capture, pm]}
queue: {retry: 5m, keep_bodies: 2h, min_free: 1GiB}
bounce: {from: bounces@example.com}
admin: {listen: ["unix:/run/relay/admin.sock", "127.0.0.1:8025"], metrics: false}
log: {level: debug, format: json}
"""


def test_a_full_file(write: Callable[[str], Path], tmp_path: Path) -> None:
    """Every kind of value arrives as written, and what may surprise is a warning."""
    path = write(FULL.replace("CA}", f"{ca_file(tmp_path)}}}"))
    loaded = config.load(path, environ={})
    assert [("[::1]:25", ()), ("unix:/run/relay/smtp.sock", ("ses", "postmark", "mailtrap", "relay"))] == [
        (item.address, item.controls) for item in loaded.listen
    ]
    assert 1_572_864 == loaded.listen[1].max_size
    a, b = loaded.providers["a"], loaded.providers["b"]
    assert isinstance(a, config.SmtpProvider)
    assert isinstance(b, config.SmtpProvider)
    assert ("::1", 587, "12345", 3) == (a.host, a.port, a.username, a.limits.concurrency)
    assert ("0123", "12345678") == loaded.secrets()
    assert (465, "hold", None) == (b.port, b.unknown_outcome, b.password)
    pm = loaded.providers["pm"]
    assert isinstance(pm, config.PostmarkProvider)
    assert (False, "None", "http://127.0.0.1:8080/x") == (pm.track_opens, pm.track_links, pm.base_url)
    capture = loaded.providers["capture"]
    assert isinstance(capture, config.CaptureProvider)
    assert Path("/var/lib/relay/capture/capture") == capture.directory
    match = routing.Match(
        from_=("<>", "*@Example.com"),
        to=("postmaster", "*@b.c"),
        client=(ip_network("10.0.0.0/8"), ip_network("::1")),
        listener=("local",),
        header={"list-id": ("*",), "x-a": ("a", "b")},
        larger=10_000_000,
    )
    two = routing.Route("two", ("c",), routing.Match(to=("x@y.z",)))
    assert (routing.Route("one", ("a", "b"), match, 0.0), two, routing.Route("rest", ("capture", "pm"))) == loaded.route_table()
    assert ((300.0,), 7200.0, 2**30) == (loaded.queue.retry, loaded.queue.keep_bodies, loaded.queue.min_free)
    assert ("bounces@example.com", "relay.example.com", False) == (loaded.bounce.sender, loaded.hostname, loaded.admin.metrics)
    assert (
        f"{path}:8:48: providers.c.tls: mail goes to this smarthost in clear",
        f"{path}:11:10: providers.spare: no route uses this provider",
        f'{path}:20:5: routes.2: "capture" is of type capture: what goes there does not leave this host; "pm" behind it delivers: '
        "the first failover would send it to real people (give it a route of its own)",
    ) == loaded.warnings


def test_a_lone_capture_is_warned_about(write: Callable[[str], Path]) -> None:
    """Without routes the only provider is judged too."""
    path = write("providers: {capture: }\n")
    warning = f'{path}:1:12: providers: "capture" is of type capture: what goes there does not leave this host'
    assert (warning,) == config.load(path, environ={}).warnings


SCALARS = {
    "no": "no", "yes": "yes", "012": "012", "12:30": "12:30", "1.10": "1.10", "1_000": "1_000", "0x1F": "0x1F", "+5": "+5",
    "5": 5, "-5": -5, "0": 0, "true": True, "FALSE": False, "~": None, "null": None, "'5'": "5", '"true"': "true",
    "2026-01-01": "2026-01-01",
}  # fmt: skip


@pytest.mark.parametrize("written", SCALARS)
def test_scalars_are_what_they_look_like(written: str) -> None:
    """Only true, false, null, ~ and plain whole numbers are not text."""
    report = Report("x")
    assert {"a": SCALARS[written]} == marks.read(f"a: {written}\n".encode(), report)
    assert () == report.problems


def test_a_byte_order_mark_is_ignored() -> None:
    """Editors on other systems write one."""
    assert {"a": "b"} == marks.read(b"\xef\xbb\xbfa: b\n", Report("x"))


def test_references_stand_inside_a_value_and_can_be_escaped(write: Callable[[str], Path]) -> None:
    """A reference may be part of a value; `$${` is a plain `${`."""
    text = smtp('username: "${env:A}-${env:B}", password: "$${x}$$"')
    provider = config.load(write(text), environ={"A": "one", "B": "two\n"}).providers["smarthost"]
    assert isinstance(provider, config.SmtpProvider)
    assert provider.password is not None
    assert ("one-two", "${x}$$") == (provider.username, provider.password.get_secret_value())


def test_a_long_line_is_shown_around_its_mistake(write: Callable[[str], Path]) -> None:
    """A line beyond the screen is cut, and the caret still stands below its place."""
    (found,) = problems_of(write(f"{POSTMARK}log: {{format: text, {' ' * 300}level: inf, {' ' * 300}}}\n"))
    lines = found.splitlines()
    caret = lines[-2].index("^")
    assert "inf" == lines[-3][caret : caret + 3]
    assert max(map(len, lines)) < 200


def test_dev_needs_no_file(tmp_path: Path) -> None:
    """The configuration of a first run listens on loopback only and captures everything."""
    made = config.dev(tmp_path)
    assert ["127.0.0.1:1025"] == [item.address for item in made.listen]
    assert (f"unix:{tmp_path}/admin.sock", "127.0.0.1:8025") == made.admin.listen
    assert (tmp_path / "spool", 7 * 86400.0) == (made.queue.spool, made.queue.keep_bodies)
    assert (routing.Route("default", ("capture",)),) == made.route_table()
    assert () == made.secrets()
    with pytest.raises(ConfigError, match="the path is too long for a unix socket"):
        config.dev(tmp_path / ("x" * 120))


def test_the_port_of_implicit_tls_without_it_is_warned_about(write: Callable[[str], Path]) -> None:
    """STARTTLS on 465 waits for a greeting that never comes."""
    path = write("providers: {smarthost: {type: smtp, host: mail.example.net, port: 465}}\n")
    assert (f"{path}:1:67: providers.smarthost.port: 465 is implicit TLS (tls: implicit)",) == config.load(path, environ={}).warnings
    path = write("providers: {smarthost: {type: smtp, host: mail.example.net, port: 465, tls: implicit}}\n")
    assert () == config.load(path, environ={}).warnings


def test_a_name_without_a_domain_is_warned_about(write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounces would bear it; a `from` of their own, or a full name, ends the warning about them."""
    monkeypatch.setattr("socket.gethostname", lambda: "vm")
    monkeypatch.setattr("socket.getfqdn", lambda name: "localhost")
    loaded = config.load(write(POSTMARK), environ={})
    assert ("vm", "mailer-daemon@vm") == (loaded.hostname, loaded.bounce.sender)
    assert ["the name of this host has no domain: vm; bounces leave as mailer-daemon@vm (set hostname: relay.example.com)"] == [
        warning.partition("hostname: ")[2] for warning in loaded.warnings
    ]
    [warning] = config.load(write(POSTMARK + "bounce: {from: bounces@example.com}\n"), environ={}).warnings
    assert "bounces" not in warning
    assert () == config.load(write(POSTMARK + "hostname: relay.example.com\n"), environ={}).warnings


def test_a_host_without_a_usable_name_is_localhost(write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A system name that cannot stand in an address is not used."""
    monkeypatch.setattr("socket.gethostname", lambda: "bad name.example")
    assert "mailer-daemon@localhost" == config.load(write(POSTMARK), environ={}).bounce.sender


@pytest.mark.parametrize(
    ("written", "seconds"), [("0s", 0.0), ("30s", 30.0), ("1.5h", 5400.0), ("5 m", 300.0), ("2d", 172800.0), ("1w", 604800.0), (2.5, 2.5)]
)
def test_durations(written: object, seconds: float) -> None:
    """A number and one unit."""
    assert seconds == values.duration(written)


@pytest.mark.parametrize(("written", "octets"), [("512kB", 512_000), ("40mb", 40_000_000), ("1GiB", 2**30), ("7B", 7), ("1.5KiB", 1536)])
def test_sizes(written: str, octets: int) -> None:
    """A number and one unit, decimal or binary."""
    assert octets == values.size(written)


_WORDS = st.sampled_from(
    [
        *(*keys_of(Root), *PROVIDERS, *keys_of(config.RouteConfig), *keys_of(config.ListenConfig), *keys_of(config.SesProvider)),
        *("token", "host", "smtp", "off", "required", "sandbox", "127.0.0.1:25", "0.0.0.0/0", "unix:/x"),
        *("1m", "5x", "${env:A}", "<>", "*@x", "["),
    ]
)
_LEAVES = st.none() | st.booleans() | st.integers() | _WORDS | st.text(max_size=8)
_TREES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_WORDS | st.text(max_size=4), inner, max_size=5), max_leaves=25
)


def _flow(tree: object) -> str:
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(_flow, tree)) + "]"
    if isinstance(tree, str):
        return '"' + "".join(char if char.isalnum() and char.isascii() else f"\\U{ord(char):08x}" for char in tree) + '"'
    return {None: "null", True: "true", False: "false"}.get(tree, str(tree)) if isinstance(tree, bool | None) else str(tree)


def _load_anything(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(data)
    path.chmod(0o600)
    with suppress(ConfigError):
        config.load(path, environ={"A": "x"}, tests_at=0.0)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200) | st.text(alphabet="a:- \n\t{}[],\"'#&*!|>%@`?~0\\", max_size=80).map(str.encode))
def test_any_octets_give_a_config_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Never any other exception, whatever the file holds."""
    _load_anything(tmp_path_factory, data)


_SECTION_WORDS = st.sampled_from(
    [key for model in (config.ListenConfig, config.SesProvider, config.MailtrapProvider, config.PauboxProvider) for key in keys_of(model)]
)
_BELOW = st.dictionaries(st.sampled_from(["max", "wait", "size", "concurrency", "rate", "bulk"]), _LEAVES, max_size=2)
_SECTIONS = st.dictionaries(_SECTION_WORDS, _LEAVES | _BELOW, max_size=8)


@settings(max_examples=150, deadline=None)
@given(listen=st.lists(_SECTIONS, max_size=3), providers=st.dictionaries(st.sampled_from([*PROVIDERS]), _SECTIONS, max_size=3))
def test_any_keys_of_a_section_give_a_config_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, listen: object, providers: object
) -> None:
    """Right keys with any values beside each other: no check trips over what another one has refused."""
    _load_anything(tmp_path_factory, _flow({"listen": listen, "providers": providers}).encode())


_ROUTE_WORDS = [key for model in (RouteConfig, MatchConfig, CaseConfig) for key in keys_of(model)]
_SOME = st.sampled_from(
    ["a", "b", "hole", "news", "*@x", "x@y.z", "off", "100..0", "0..0", "1d", "2026-12-01", "5%", "10MB", "high", "spill"]
)
_BELOW_ROUTE = st.dictionaries(
    st.sampled_from([*keys_of(RampConfig), *keys_of(StepBackConfig), "a", "b", "x", "hole"]), _SOME | _LEAVES, max_size=5
)
_ROUTES = st.dictionaries(st.sampled_from(_ROUTE_WORDS), _SOME | _LEAVES | _BELOW_ROUTE | st.lists(_SOME, max_size=3), max_size=8)


@settings(max_examples=300, deadline=None)
@given(routes=st.lists(_ROUTES, max_size=3), tests=st.lists(_ROUTES, max_size=2), senders=_ROUTES, shares=_BELOW_ROUTE)
def test_any_keys_of_a_route_give_a_config_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, routes: list[dict[str, object]], tests: object, senders: object, shares: dict[str, object]
) -> None:
    """Right keys with any values, also where the rest of a route is good: neither a check nor a test of the file's own trips."""
    providers: object = {name: {"type": "smtp", "host": "mail.example.net"} for name in ("a", "b")} | {"hole": {"type": "capture"}}
    good: list[dict[str, object]] = [
        {"name": "x", "match": {"to": "*@x"}, **routes[0]} if routes else {"name": "x", "match": {"to": "*@x"}, "via": "a"},
        {"name": "y", "match": {"to": "*@y"}, "ramp": {"from": "2026-12-01", "over": "1d", "a": "1..0", "b": "0..1", **shares}},
        {"name": "z", "via": ["a", "b"]},
    ]
    for listed in (routes, good):
        _load_anything(tmp_path_factory, _flow({"providers": providers, "routes": listed, "tests": tests, "senders": senders}).encode())


@settings(max_examples=150, deadline=None)
@given(tree=st.dictionaries(st.sampled_from(sorted(keys_of(Root))), _TREES, max_size=6) | _TREES)
def test_any_tree_gives_a_config_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, tree: object) -> None:
    """Well-formed YAML of any shape, with the words of the format in the wrong places."""
    _load_anything(tmp_path_factory, _flow(tree).encode())
