"""Writing configurations for tests, and what is said of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from relay import config
from relay.errors import ConfigError

HOSTNAME = "hostname: relay.example.com\n"
ENVIRON = {  # what relay.yaml.example refers to
    "POSTMARK_TOKEN": "fake-token-0000",
    "AWS_ACCESS_KEY_ID": "AKIAFAKEFAKEFAKE0000",
    "AWS_SECRET_ACCESS_KEY": "fake-secret-0000",
    "MAILTRAP_TOKEN": "fake-token-0001",
    "PAUBOX_API_KEY": "fake-key-0000",
    "LOWCODEAPI_TOKEN": "at_fake-token-0000",
}
POSTMARK = 'providers: {postmark: {token: "fake-token-0000"}}\n'


def written(directory: Path, text: str) -> Path:
    """A configuration that only its owner can read."""
    path = directory / "relay.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    path.chmod(0o600)
    return path


def problems_of(path: Path, **environ: str) -> tuple[str, ...]:
    """The mistakes in a file, without its name."""
    with pytest.raises(ConfigError) as caught:
        config.load(path, environ=environ)
    return tuple(problem.replace(f"{path}:", "", 1) for problem in caught.value.problems)


def headlines_of(path: Path, **environ: str) -> list[str]:
    """The first line of each mistake."""
    return [problem.splitlines()[0] for problem in problems_of(path, **environ)]


def warnings_of(path: Path, **environ: str) -> list[str]:
    """The warnings about a good file, without its name and their places."""
    return [warning.replace(f"{path}:", "", 1).partition(": ")[2] for warning in config.load(path, environ=environ).warnings]


def certificate(directory: Path, name: str = "tls", days: float = 100) -> tuple[Path, Path]:
    """(certificate, key) of an authority of our own; the certificate is good for so many days from now."""
    made = trustme.CA().issue_cert("relay.example.com", not_after=datetime.now(UTC) + timedelta(days=days))
    cert, key = directory / f"{name}.crt", directory / f"{name}.key"
    made.cert_chain_pems[0].write_to_path(cert)
    made.private_key_pem.write_to_path(key)
    key.chmod(0o600)
    return cert, key
