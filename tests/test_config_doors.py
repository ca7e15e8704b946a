"""Listeners in the configuration: relay is never an open relay, and no password comes in clear."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import config, users
from relay.config import doors
from relay.errors import ConfigError
from tests.configs import HOSTNAME, POSTMARK, certificate, headlines_of, warnings_of, written

ALL = ("ses", "postmark", "mailtrap", "relay")


def listeners(directory: Path, *items: str) -> Path:
    """A configuration with these listeners."""
    return written(directory, HOSTNAME + POSTMARK + "listen:\n" + "".join(f"  - {{{item}}}\n" for item in items))


def test_a_listener_with_everything(tmp_path: Path) -> None:
    """TLS, users, networks and proxies arrive as written."""
    cert, key = certificate(tmp_path)
    users.set_password(tmp_path / "users", "app", "not-a-real-password")
    keys = f"tls: required, cert: {cert}, key: {key}, auth: {tmp_path}/users, allow: [10.0.0.0/8, 0.0.0.0/0], proxy: 10.0.0.2"
    loaded = config.load(listeners(tmp_path, f'name: lan, address: "0.0.0.0:587", {keys}'), environ={})
    (found,) = loaded.listen
    assert ("required", cert, key, tmp_path / "users") == (found.tls, found.cert, found.key, found.auth)
    assert ((ip_network("10.0.0.0/8"), ip_network("0.0.0.0/0")), (ip_network("10.0.0.2/32"),)) == (found.allow, found.proxy)
    assert () == loaded.warnings


@pytest.mark.parametrize(
    ("item", "controls"),
    [
        ('address: "127.0.0.1:25"', ALL),
        ('address: "[::1]:25"', ALL),
        ('address: "unix:/run/relay/smtp.sock"', ALL),
        ('address: "10.0.0.5:25", allow: 10.0.0.0/8', ()),
        ('address: "127.0.0.1:25", proxy: 127.0.0.1, allow: 10.0.0.0/8', ()),
        ('address: "10.0.0.5:25", allow: 10.0.0.0/8, controls: [relay]', ("relay",)),
        ('address: "127.0.0.1:25", controls: []', ()),
    ],
)
def test_controls_are_for_clients_of_this_host(tmp_path: Path, item: str, controls: tuple[str, ...]) -> None:
    """Without `controls` all dialects are obeyed on this host, and none where other hosts come from."""
    assert controls == config.load(listeners(tmp_path, f"name: a, {item}"), environ={}).listen[0].controls


PRIVATE = [
    "127.0.0.0/8",
    "10.1.0.0/16",
    "172.16.0.0/12",
    "192.168.1.7/32",
    "100.64.0.0/10",
    "169.254.1.0/24",
    "::1",
    "fd00::/8",
    "fe80::/10",
]
PUBLIC = [
    "0.0.0.0/0",
    "::/0",
    "0.0.0.0/8",
    "8.8.8.8",
    "172.0.0.0/8",
    "192.0.2.0/24",
    "203.0.113.9",
    "255.255.255.255",
    "2001:db8::/32",
    "::/1",
]


@pytest.mark.parametrize(("network", "private"), [*((one, True) for one in PRIVATE), *((one, False) for one in PUBLIC)])
def test_private_networks(network: str, private: bool) -> None:
    """Private is what belongs to the admin; not what Python calls so, which knows of 0.0.0.0/0 and of examples."""
    assert private == doors.is_private(ip_network(network))


@given(network=st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(lambda pair: ip_network(pair, strict=False)))
def test_what_is_private_is_private_to_the_last_address(network: object) -> None:
    """No network that holds one public address is taken for private."""
    found = ip_network(str(network))
    if doors.is_private(found):
        assert all(end.is_private or end in ip_network("100.64.0.0/10") for end in (found[0], found[-1]))
        assert found.prefixlen >= 8


def test_a_login_opens_a_listener_to_everybody(tmp_path: Path) -> None:
    """With users and TLS any network may be allowed; on this host not even TLS is needed."""
    cert, key = certificate(tmp_path)
    users.set_password(tmp_path / "users", "app", "not-a-real-password")
    path = listeners(
        tmp_path,
        f'name: a, address: "[::]:465", tls: implicit, cert: {cert}, key: {key}, auth: {tmp_path}/users, allow: 203.0.113.0/24',
        f'name: b, address: "127.0.0.1:2525", auth: {tmp_path}/users',
        f'name: c, address: "unix:{tmp_path}/smtp.sock", auth: {tmp_path}/users',
        'name: d, address: "192.168.0.1:25", allow: [192.168.0.0/16, fd00::/8]',
    )
    assert [] == warnings_of(path)


def test_passwords_in_clear_are_refused(tmp_path: Path) -> None:
    """A listener with users that other hosts reach needs TLS."""
    users.set_password(tmp_path / "users", "app", "not-a-real-password")
    path = listeners(tmp_path, f'name: a, address: "10.0.0.5:587", auth: {tmp_path}/users')
    assert ["4:40: listen.0.auth: passwords would come to 10.0.0.5:587 in clear"] == headlines_of(path)


def test_passwords_in_clear_through_a_proxy_are_refused(tmp_path: Path) -> None:
    """Who comes by a proxy is no client of this host, wherever the proxy runs."""
    users.set_password(tmp_path / "users", "app", "not-a-real-password")
    path = listeners(tmp_path, f'name: a, address: "127.0.0.1:587", proxy: 127.0.0.1, auth: {tmp_path}/users')
    assert ["4:59: listen.0.auth: passwords would come through the proxy in clear"] == headlines_of(path)


def test_networks_that_cannot_reach_a_listener_are_warned_about(tmp_path: Path) -> None:
    """`allow` without this host, on an address of this host alone, takes mail from nobody."""
    warning = "listen.0.allow: only clients of this host reach this address, and they are not in these networks"
    assert [warning] == warnings_of(listeners(tmp_path, 'name: a, address: "127.0.0.1:25", allow: 10.0.0.0/8'))
    assert [] == warnings_of(listeners(tmp_path, 'name: a, address: "127.0.0.1:25", allow: [10.0.0.0/8, 127.0.0.0/8]'))
    assert [] == warnings_of(listeners(tmp_path, 'name: a, address: "127.0.0.1:25", allow: 10.0.0.0/8, proxy: 127.0.0.1'))


def test_wrong_users_are_named_with_their_line(tmp_path: Path) -> None:
    """A file of users that cannot be used is a mistake of the configuration."""
    file = tmp_path / "users"
    file.write_text("# ours\napp:not-a-hash\n")
    file.chmod(0o640)
    (found,) = headlines_of(listeners(tmp_path, f'name: a, address: "127.0.0.1:25", auth: {file}'))
    assert f"4:46: listen.0.auth: {file}:2: " in found
    assert "not-a-hash" not in found


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    """Certificate and key are tried together."""
    cert, _ = certificate(tmp_path)
    _, key = certificate(tmp_path, "other")
    (found,) = headlines_of(listeners(tmp_path, f'name: a, address: "127.0.0.1:25", tls: optional, cert: {cert}, key: {key}'))
    assert f"listen.0.cert: key {key} does not belong to certificate {cert}" in found


@pytest.mark.parametrize(("days", "warned"), [(13, True), (15, False)])
def test_a_certificate_that_expires_soon_is_warned_about(tmp_path: Path, days: int, warned: bool) -> None:
    """Fourteen days are left to renew it."""
    cert, key = certificate(tmp_path, days=days)
    found = warnings_of(listeners(tmp_path, f'name: a, address: "127.0.0.1:25", tls: optional, cert: {cert}, key: {key}'))
    assert warned == any(f"listen.0.cert: certificate {cert} expires on" in warning for warning in found)


def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    """Clients would refuse it."""
    cert, key = certificate(tmp_path, days=-1)
    (found,) = headlines_of(listeners(tmp_path, f'name: a, address: "127.0.0.1:25", tls: optional, cert: {cert}, key: {key}'))
    assert f"listen.0.cert: certificate {cert} expired on" in found


@pytest.mark.parametrize(
    ("port", "tls", "warning"),
    [
        (25, "implicit", "clients of port 25 begin in clear and wait for STARTTLS, not for TLS (tls: required, or port 465)"),
        (587, "implicit", "clients of port 587 begin in clear and wait for STARTTLS, not for TLS (tls: required, or port 465)"),
        (465, "required", "clients of port 465 begin with TLS, not with STARTTLS (tls: implicit, or port 587)"),
        (465, "implicit", None),
        (25, "optional", None),
    ],
)
def test_a_port_that_does_not_go_with_its_tls_is_warned_about(tmp_path: Path, port: int, tls: str, warning: str | None) -> None:
    """Clients know by the port how TLS begins."""
    cert, key = certificate(tmp_path)
    path = listeners(tmp_path, f'name: a, address: "127.0.0.1:{port}", tls: {tls}, cert: {cert}, key: {key}')
    assert ([f"listen.0.tls: {warning}"] if warning else []) == warnings_of(path)


def test_nothing_is_looked_at_where_nothing_is_sent(tmp_path: Path) -> None:
    """For showing a request neither certificates, nor authorities, nor users need be readable, and no secret need be had."""
    text = (
        HOSTNAME
        + 'providers: {ses: {region: eu-west-1, access_key_id: "${env:A}", secret_access_key: "${cred:B}", mode: smtp, ca_file: /none}}\n'
    )
    item = "{name: a, address: '127.0.0.1:25', tls: optional, cert: /nonexistent, key: /nonexistent, auth: /nonexistent}"
    path = written(tmp_path, f"{text}listen: [{item}]\nqueue: {{spool: /proc/version}}\n")
    loaded = config.load(path, environ={}, inside_service=False, for_sending=False)
    assert () == loaded.warnings
    provider = loaded.providers["ses"]
    assert isinstance(provider, config.SesProvider)
    assert provider.access_key_id
    assert provider.secret_access_key


def test_a_malformed_reference_is_a_mistake_even_where_nothing_is_sent(tmp_path: Path) -> None:
    """A stand-in takes the place of what cannot be had, not of what is written wrongly."""
    path = written(tmp_path, "providers: {postmark: {token: '${TOKEN}'}}\n")
    with pytest.raises(ConfigError, match="a reference names its kind"):
        config.load(path, environ={}, for_sending=False)
