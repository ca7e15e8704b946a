"""Every exception class of the two client libraries has a place: a new one in a new version fails here first."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import aiosmtplib
import httpx
import pytest

from relay.model import Verdict
from relay.transports import net
from relay.transports.bodies import Body
from relay.transports.http import _Body, _stage, _words
from relay.transports.smtp import outcome, trouble

STAGES = ("connect", "tls", "ehlo", "starttls", "auth")


def _classes(module: object, root: type[BaseException]) -> list[type[BaseException]]:
    """The exception classes that a module offers."""
    found = (getattr(module, name) for name in getattr(module, "__all__", dir(module)))
    return sorted({one for one in found if isinstance(one, type) and issubclass(one, root)}, key=lambda one: one.__name__)


def _smtp_errors() -> Iterator[Exception]:
    for kind in _classes(aiosmtplib.errors, Exception):
        if issubclass(kind, (aiosmtplib.SMTPSenderRefused, aiosmtplib.SMTPRecipientRefused)):
            yield kind(550, "5.7.1 no", "a@b.test")
            yield kind(-1, "garbage", "a@b.test")
        elif issubclass(kind, aiosmtplib.SMTPResponseException):
            yield from (kind(code, "text") for code in (550, 421, 250, -1))
        elif issubclass(kind, aiosmtplib.SMTPRecipientsRefused):
            yield kind([])
        else:
            yield kind("text with canary")  # type: ignore[misc]


SMTP_ERRORS = [
    *_smtp_errors(),
    OSError(111, "x"),
    OSError("Multiple exceptions: …"),
    ssl.SSLError(1, "x"),
    ValueError("x"),
    UnicodeError("x"),
    TimeoutError(),
]


@pytest.mark.parametrize("error", SMTP_ERRORS, ids=repr)
@pytest.mark.parametrize("stage", STAGES)
def test_smtp_errors(stage: str, error: Exception) -> None:
    """Whatever opening a connection raises concerns the provider, and is surely not taken."""
    found = trouble(stage, error)
    result = outcome(found.stage, found.finding, "mail.example.net[192.0.2.1]:587")
    assert result.verdict in (Verdict.PAUSE, Verdict.THROTTLE)
    assert "canary" not in result.reply
    assert bool(result.mend) is (result.verdict is Verdict.PAUSE)


def test_smtp_library_is_known() -> None:
    """The classes that the table above covers are all there are."""
    assert len(_classes(aiosmtplib.errors, Exception)) == 15


# Programming errors, none of which our one way to use the library can raise.
NOT_HTTP = {"CookieConflict"}


@pytest.mark.parametrize("kind", _classes(httpx, Exception), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    ("begun", "handed_over", "stages"), [(0.0, False, {"connect", "tls", "send"}), (1.0, False, {"send"}), (1.0, True, {"answer"})]
)
def test_http_errors(kind: type[Exception], begun: float, handed_over: bool, stages: set[str]) -> None:
    """Every exception is caught, and placed by how far the body came, never by its class alone."""
    if kind.__name__ in NOT_HTTP:
        return
    assert issubclass(kind, (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError))
    error = kind.__new__(kind)
    error.args = ("text with canary",)
    body = _Body(Body((b"{}",)))
    body.begun, body.handed_over = begun, handed_over
    assert _stage(body, error) in stages
    assert "canary" not in _words(body, error)


def test_http_library_is_known() -> None:
    """The classes that the table above covers are all there are."""
    assert len(_classes(httpx, Exception)) == 28


def test_failed_handshake_is_told_from_a_refused_connection() -> None:
    """A TLS failure under a connect error is placed at `tls`."""
    error = httpx.ConnectError("x")
    error.__cause__ = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")
    error.__cause__.reason = "WRONG_VERSION_NUMBER"
    assert _stage(_Body(Body(())), error) == "tls"
    assert _words(_Body(Body(())), error) == "cannot connect: TLS failed: wrong version number"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ExceptionGroup("x", [ConnectionRefusedError(111, "canary")]), "Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "name not found: Name or service not known"),
        (TimeoutError("canary"), "timed out"),
        (RuntimeError("canary"), "connection lost"),
    ],
    ids=repr,
)
def test_reason(error: BaseException, text: str) -> None:
    """The innermost cause gives the words; a library's own text never does."""
    outer = httpx.ConnectError("canary")
    outer.__cause__ = error
    assert net.reason(outer) == text
