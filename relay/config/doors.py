"""What must hold between the keys of one listener, so that relay is never an open relay and no password comes in clear.

Runs on a draft: keys already reported are not judged again.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from relay.config import values
from relay.config.build import Part
from relay.config.model import ListenConfig
from relay.config.problems import Report

_PRIVATE = tuple(
    ip_network(written)
    for written in (
        *("127.0.0.0/8", "::1/128"),  # this host
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),  # RFC 1918
        "100.64.0.0/10",  # RFC 6598, which overlay networks use too
        *("169.254.0.0/16", "fe80::/10"),  # RFC 3927, RFC 4291 §2.5.6
        "fc00::/7",  # RFC 4193
    )
)
_TLS_PORT = 465  # RFC 8314 §3.3
_CLEAR_PORTS = (25, 587)  # RFC 5321, RFC 6409: TLS begins with STARTTLS
_USERS = "add auth: /etc/relay/users"


def is_private(network: IPv4Network | IPv6Network) -> bool:
    """Whether all addresses of a network belong to nobody outside: its hosts are the admin's own."""
    # Not `network.is_private`: for Python that is also what is reserved for examples, and in some releases 0.0.0.0/0.
    return any(network.network_address in own and network.prefixlen >= own.prefixlen for own in _PRIVATE)


def is_wildcard(address: str) -> bool:
    """Whether an endpoint stands for every address of this host."""
    return address == wildcard_of(address)


def wildcard_of(address: str) -> str:
    """The endpoint that takes what this one does and more: `0.0.0.0:25` of `127.0.0.1:25`; "" of a unix socket."""
    if address.startswith("unix:"):
        return ""
    host, _, port = address.rpartition(":")
    return f"[::]:{port}" if ip_address(host.strip("[]")).version == 6 else f"0.0.0.0:{port}"


def check(part: Part[ListenConfig], report: Report) -> None:
    """All mistakes of one listener."""
    for index, network in enumerate(part.value.proxy):
        if network.prefixlen == 0:
            text = f"{network} is every address: anybody could name any client in a PROXY header"
            report.add((*part.loc, "proxy", index), text, "name the proxies' own addresses")
    if "address" not in part.bad and part.value.address.startswith("unix:"):
        _unix(part, report)
        return
    _tls(part, report)
    if "address" not in part.bad:
        _open(part, report)


def warn(part: Part[ListenConfig], report: Report) -> None:
    """What is allowed and may surprise."""
    listener = part.value
    if listener.address.startswith("unix:"):
        return
    reached = not values.beyond_this_host(listener.address) and not listener.proxy
    if reached and listener.allow and not any(network.is_loopback for network in listener.allow):
        report.warn((*part.loc, "allow"), "only clients of this host reach this address, and they are not in these networks")
    port = int(listener.address.rpartition(":")[2])
    if listener.tls == "implicit" and port in _CLEAR_PORTS:
        text = f"clients of port {port} begin in clear and wait for STARTTLS, not for TLS"
        report.warn((*part.loc, "tls"), text, "tls: required, or port 465")
    if listener.tls in {"optional", "required"} and port == _TLS_PORT:
        report.warn((*part.loc, "tls"), "clients of port 465 begin with TLS, not with STARTTLS", "tls: implicit, or port 587")


def _tls(part: Part[ListenConfig], report: Report) -> None:
    loc, bad, listener = part.loc, part.bad, part.value
    cert, key = "cert" in bad or listener.cert is not None, "key" in bad or listener.key is not None
    if cert and not key:
        report.add((*loc, "cert"), "a certificate needs its key", "add key: /etc/relay/tls.key", at_key=True)
    if key and not cert:
        report.add((*loc, "key"), "a key needs its certificate", "add cert: /etc/relay/tls.crt", at_key=True)
    if "tls" in bad:
        return
    if listener.tls != "off" and not cert and not key:
        mend = "add cert: /etc/relay/tls.crt and key: /etc/relay/tls.key"
        report.add((*loc, "tls"), "TLS needs a certificate and its key", mend)
    if listener.tls == "off" and cert and key:
        report.add((*loc, "cert"), "not used: tls is off", "add tls: required, or remove cert and key", at_key=True)


def _unix(part: Part[ListenConfig], report: Report) -> None:
    """Nobody listens in on a unix socket, and its clients have no address."""
    listener = part.value
    given = {"tls": listener.tls != "off", "cert": listener.cert is not None, "key": listener.key is not None}
    if first := next((key for key, is_given in given.items() if is_given), None):
        text = "a unix socket does not leave this host: TLS has no use there"
        report.add((*part.loc, first), text, "remove tls, cert and key", at_key=True)
    for key in ("allow", "proxy"):
        if getattr(listener, key):
            mend = "remove it; who may connect is up to the modes of the directory"
            report.add((*part.loc, key), "clients of a unix socket have no address", mend, at_key=True)


def _open(part: Part[ListenConfig], report: Report) -> None:
    """Mail is relayed for those who log in, and for hosts that are the admin's own; never for whoever comes."""
    loc, bad, listener = part.loc, part.bad, part.value
    far = values.beyond_this_host(listener.address)
    if not far and not listener.proxy:
        return
    if listener.auth is not None and listener.tls == "off" and not bad & {"auth", "tls"}:
        way = f"to {listener.address}" if far else "through the proxy"
        report.add((*loc, "auth"), f"passwords would come {way} in clear", "add tls: required, cert and key", at_key=True)
    if listener.auth is not None or bad & {"auth", "allow", "proxy"}:
        return
    if not listener.allow:
        reached = f"{listener.address} is reached from other hosts" if far else "a proxy's clients are on other hosts"
        mend = f"{_USERS}, or allow: [10.0.0.0/8] for your own network" + (", or listen on 127.0.0.1" if far else "")
        report.add((*loc, "address"), f"{reached}, and anybody there could send through relay: an open relay", mend)
    for index, network in enumerate(listener.allow):
        if network.prefixlen == 0:
            text = f"{network} is every address: anybody could send through relay, an open relay"
            report.add((*loc, "allow", index), text, f"name your own networks, or {_USERS}")
        elif not is_private(network):
            text = f"{network} is public: whoever has an address of it, today or later, could send through relay without a login"
            report.add((*loc, "allow", index), text, f"{_USERS}, or name private networks only")
