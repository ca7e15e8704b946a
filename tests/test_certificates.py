"""Certificates: what loads, what is refused with its mend, and what changes when the files do."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from relay.certificates import SOON, CertificateError, ServerTls, problems

DAY = 86400.0
AUTHORITY = trustme.CA()


def written(directory: Path, name: str = "one", *, until: datetime | None = None, since: datetime | None = None) -> tuple[Path, Path]:
    """A certificate for localhost with its chain, and its key, as two files."""
    made = AUTHORITY.issue_cert("localhost", not_after=until, not_before=since)
    cert, key = directory / f"{name}.crt", directory / f"{name}.key"
    cert.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    key.write_bytes(made.private_key_pem.bytes())
    key.chmod(0o640)
    return cert, key


def replaced(path: Path, data: bytes) -> None:
    """Put another file in a file's place, as whoever renews a certificate does."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.chmod(0o640)
    os.replace(new, path)


async def serial(tls: ServerTls) -> int:
    """The serial number of the certificate that a client gets to see over a real connection."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=tls.context)
    async with server:
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        AUTHORITY.configure_trust(client)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="localhost")
        shown = writer.get_extra_info("ssl_object").getpeercert()
        await reader.read()
        writer.close()
    return int(shown["serialNumber"], 16)


async def test_serves(tmp_path: Path) -> None:
    """A good pair serves a client that checks chain and name, from TLS 1.2 on."""
    cert, key = written(tmp_path)
    tls = ServerTls(cert, key)
    assert ssl.TLSVersion.TLSv1_2 == tls.context.minimum_version
    assert x509.load_pem_x509_certificate(cert.read_bytes()).serial_number == await serial(tls)


def test_both_in_one_file(tmp_path: Path) -> None:
    """Key and certificate may stand in one file, and text may stand around them."""
    cert, key = written(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(b"made by hand\n" + key.read_bytes() + b"subject=x\n" + cert.read_bytes())
    assert ServerTls(both, both).expires() == ServerTls(cert, key).expires()


@pytest.mark.parametrize("days", [365, 10, -1])
def test_expires(tmp_path: Path, days: int) -> None:
    """The end of the certificate is told to the second, even when it is past."""
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    cert, key = written(tmp_path, until=until, since=until - timedelta(days=30))
    assert until.timestamp() == ServerTls(cert, key).expires()


def test_expiry_is_told_beforehand(tmp_path: Path) -> None:
    """Nothing is said until two weeks before the end; then a warning, and from the end on an error."""
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=100)
    cert, key = written(tmp_path, until=until)
    end = until.timestamp()
    day = f"{until:%Y-%m-%d %H:%M} UTC"
    assert ([], []) == problems(cert, key, end - SOON)
    assert ([], [f"certificate {cert} expires on {day}: renew it before"]) == problems(cert, key, end - SOON + 1)
    assert ([f"certificate {cert} expired on {day}: renew it"], []) == problems(cert, key, end)


def test_not_valid_yet(tmp_path: Path) -> None:
    """A certificate whose time has not come is an error that also suspects the clock."""
    since = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    cert, key = written(tmp_path, since=since, until=since + timedelta(days=90))
    [error], warnings = problems(cert, key, since.timestamp() - 1)
    assert error == f"certificate {cert} is valid only from {since:%Y-%m-%d %H:%M} UTC: wait, or set this host's clock"
    assert warnings == []


def damaged(cert: Path, key: Path) -> None:
    """Turn letters in the middle of the base64 around."""
    text = cert.read_text()
    cert.write_text(text[:200] + text[200:260][::-1] + text[260:])


def encrypted(cert: Path, key: Path) -> None:
    """Protect the key by a passphrase."""
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    protection = serialization.BestAvailableEncryption(b"not-a-secret")
    key.write_bytes(loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection))


def other_kind(cert: Path, key: Path) -> None:
    """Put an RSA key beside an EC certificate."""
    made = rsa.generate_private_key(65537, 2048)
    key.write_bytes(made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


def self_made(cert: Path, key: Path, usage: x509.ObjectIdentifier, bits: int) -> None:
    """A self-signed RSA certificate for one use."""
    made = rsa.generate_private_key(65537, bits)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(made.public_key()).serial_number(7)
    built = built.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=90))
    built = built.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    cert.write_bytes(built.sign(made, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    key.write_bytes(made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


def not_regular(cert: Path, key: Path) -> None:
    """A FIFO, which would keep a plain open waiting."""
    key.unlink()
    os.mkfifo(key)


def swapped(cert: Path, key: Path) -> None:
    """The certificate where the key belongs, and readable by all as certificates are."""
    inside = cert.read_bytes(), key.read_bytes()
    cert.write_bytes(inside[1])
    key.write_bytes(inside[0])


def circle(cert: Path, key: Path) -> None:
    """A link to itself."""
    cert.unlink()
    cert.symlink_to(cert)


CERT, KEY = "certificate {cert}", "key {key}"
WRONG: list[tuple[Callable[[Path, Path], object], str]] = [
    (lambda cert, key: cert.unlink(), f"{CERT}: there is no such file: correct the path, or put it there"),
    (lambda cert, key: key.unlink(), f"{KEY}: there is no such file: correct the path, or put it there"),
    (lambda cert, key: cert.write_bytes(b"\x30\x82"), f"{CERT} holds no certificate in PEM form: name the file that has one"),
    (lambda cert, key: key.write_bytes(cert.read_bytes()), f"{KEY} holds no private key in PEM form: name the file that has one"),
    (damaged, f"{CERT} is damaged: put a whole one in its place"),
    (
        lambda cert, key: key.write_text("-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"),
        f"{CERT} and {KEY} cannot be used (",
    ),
    (encrypted, f"{KEY} is encrypted, and nobody can type its passphrase: take the passphrase off: openssl pkey -in {{key}} -out NEW"),
    (
        lambda cert, key: key.write_bytes(written(cert.parent, "other")[1].read_bytes()),
        f"{KEY} does not belong to {CERT}: name the key that the certificate was made with",
    ),
    (other_kind, f"{KEY} does not belong to {CERT}: name the key that the certificate was made with"),
    (lambda cert, key: self_made(cert, key, ExtendedKeyUsageOID.CLIENT_AUTH, 2048), f"{CERT} would be accepted by no client: "),
    (
        lambda cert, key: self_made(cert, key, ExtendedKeyUsageOID.SERVER_AUTH, 1024),
        f"{CERT} is too weak for today's TLS (ee key too small)",
    ),
    (not_regular, f"{KEY} is not a regular file: name the file that holds it"),
    (swapped, f"{CERT} holds a key, and {KEY} a certificate: they are swapped"),
    (circle, f"{CERT} cannot be read: Too many levels of symbolic links"),
]


@pytest.mark.parametrize(("break_it", "text"), WRONG, ids=[text for _, text in WRONG])
def test_wrong_pairs(tmp_path: Path, break_it: Callable[[Path, Path], object], text: str) -> None:
    """Each wrong pair is refused in one sentence that names the file and the mend, by loading and by checking alike."""
    cert, key = written(tmp_path)
    break_it(cert, key)
    expected = text.format(cert=cert, key=key)
    with pytest.raises(CertificateError) as caught:
        ServerTls(cert, key)
    assert str(caught.value).startswith(expected)
    if key.is_file():
        key.chmod(0o600)
    assert ([str(caught.value)], []) == problems(cert, key, 0.0)


def test_self_made_for_a_server(tmp_path: Path) -> None:
    """A self-signed certificate serves: whom to trust is for the client to say."""
    cert, key = tmp_path / "c", tmp_path / "k"
    self_made(cert, key, ExtendedKeyUsageOID.SERVER_AUTH, 2048)
    assert ServerTls(cert, key).expires() > datetime.now(UTC).timestamp()


def test_not_to_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that relay may not read is named with the rights it needs."""
    cert, key = written(tmp_path)
    whole = os.open

    def refuse(path: str, flags: int) -> int:
        if Path(path) == key:
            raise PermissionError(13, "Permission denied")
        return whole(path, flags)

    monkeypatch.setattr(os, "open", refuse)  # root, which may run the tests, is refused nothing
    with pytest.raises(CertificateError) as caught:
        ServerTls(cert, key)
    assert str(caught.value) == f"key {key} cannot be read: let relay's group read it: chgrp relay {key}; chmod 640 {key}"


def test_gone_between_looking_and_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that vanish while they are loaded are an error like others."""
    cert, key = written(tmp_path)
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", lambda *_, **__: (tmp_path / "gone").read_bytes())
    with pytest.raises(CertificateError, match=r"No such file or directory; try again$"):
        ServerTls(cert, key)


@pytest.mark.parametrize(("mode", "open_to_others"), [(0o600, False), (0o640, False), (0o644, True), (0o602, True)])
def test_key_open_to_others(tmp_path: Path, mode: int, open_to_others: bool) -> None:
    """A key that others may read or change is an error; the certificate may be read by all."""
    cert, key = written(tmp_path)
    key.chmod(mode)
    text = f"key {key} can be read or changed by others (mode {mode:04o}): chmod 640 {key}"
    assert ([text] if open_to_others else [], []) == problems(cert, key, ServerTls(cert, key).expires() - 100 * DAY)


async def test_refresh(tmp_path: Path) -> None:
    """Changed files are loaded once; unchanged ones are not; new connections see the new certificate."""
    cert, key = written(tmp_path)
    tls = ServerTls(cert, key)
    before = tls.context
    assert (False, before) == (tls.refresh(), tls.context)
    new_cert, new_key = written(tmp_path, "new")
    replaced(key, new_key.read_bytes())
    replaced(cert, new_cert.read_bytes())
    assert tls.refresh()
    assert not tls.refresh()
    assert tls.context is not before
    assert x509.load_pem_x509_certificate(new_cert.read_bytes()).serial_number == await serial(tls)


async def test_refresh_with_wrong_files(tmp_path: Path) -> None:
    """When only half of a pair was replaced the old pair serves on, and the next call, with both, succeeds."""
    cert, key = written(tmp_path)
    tls = ServerTls(cert, key)
    before = await serial(tls)
    new_cert, new_key = written(tmp_path, "new")
    replaced(cert, new_cert.read_bytes())
    for _ in range(2):
        with pytest.raises(CertificateError, match="does not belong to"):
            tls.refresh()
        assert await serial(tls) == before
    replaced(key, new_key.read_bytes())
    assert tls.refresh()
    assert await serial(tls) != before
    key.unlink()
    with pytest.raises(CertificateError, match="there is no such file"):
        tls.refresh()


def test_every_kind_of_key(tmp_path: Path) -> None:
    """EC, RSA and Ed25519 keys, and the traditional PEM form of a key, load alike."""
    made = AUTHORITY.issue_cert("localhost", key_type=trustme.KeyType.RSA)
    cert, key = tmp_path / "c", tmp_path / "k"
    cert.write_bytes(made.cert_chain_pems[0].bytes())
    loaded = serialization.load_pem_private_key(made.private_key_pem.bytes(), None)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    assert isinstance(loaded, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    key.write_bytes(loaded.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    assert ServerTls(cert, key).expires() > 0
