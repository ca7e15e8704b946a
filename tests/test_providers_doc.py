"""What docs/providers.md and its pages say of the providers is what the transports do: matrix, examples, errors, limits, doors."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay import assembly, config
from relay.cli import exits
from relay.cli.main import main
from relay.model import Outcome, Verdict
from relay.transports import esmtp, lowcodeapi, mailtrap, paubox, postmark, presets, refused, ses, singles, stamps
from relay.transports.http import Answer
from relay.transports.mailtrap import request as mailtrap_request
from relay.transports.mailtrap.reply import Asker
from relay.transports.paubox import request as paubox_request
from relay.transports.paubox import words
from relay.transports.postmark import request as postmark_request
from relay.transports.ses import reply as ses_reply
from relay.transports.ses.sigv4 import Keys
from relay.transports.sesv2 import options, payload, simple
from relay.transports.smtp.judging import About, judged
from tests import matrix
from tests.commands import write
from tests.tables import accepted, configured, letter

pytestmark = pytest.mark.usefixtures("nothing_of_this_host")

DOCS = matrix.DOCUMENT.parent
PAGES = {path.stem: path.read_text() for path in (matrix.DOCUMENT, *sorted((DOCS / "providers").glob("*.md")))}


def rows(page: str, title: str) -> list[list[str]]:
    """The cells of every row of the tables under a heading."""
    section = re.split(rf"(?m)^#+ {re.escape(title)}$", PAGES[page], maxsplit=1)[1]
    section = re.split(r"(?m)^#+ ", section, maxsplit=1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines]


# The matrix.


def test_the_matrix_is_what_the_transports_make(tmp_path: Path) -> None:
    """The matrix is that of now; after a change: python -m tests.matrix --write."""
    text = matrix.DOCUMENT.read_text()
    assert matrix.placed(text, matrix.matrix(tmp_path)) == text


def test_a_document_without_a_marker_is_told() -> None:
    """The matrix needs a place to go."""
    with pytest.raises(ValueError, match="lacks a marker"):
        matrix.placed("# Providers\n", "")


@pytest.mark.parametrize("row", [row for rows_ in matrix.GROUPS.values() for row in rows_], ids=lambda row: row.what)
def test_with_both_doors_only_what_is_told_is_refused(tmp_path: Path, row: matrix.Row) -> None:
    """With `mode: auto` nothing is refused that the same provider would carry by SMTP."""
    cells = dict(zip((column.title for column in matrix.COLUMNS), matrix.marks(configured(tmp_path), row)[0], strict=True))
    assert [] == [name for name in ("Mailtrap", "Postmark", "Paubox") if cells[f"{name} API"] == "**no**" != cells[f"{name} SMTP"]]


# Examples.

CONFIGURATIONS = [(page, text) for page, whole in PAGES.items() for text in re.findall(r"```yaml\n(.*?)```", whole, re.DOTALL)]
SHOWN = [(page, *found) for page, whole in PAGES.items() for found in re.findall(r"```\n\$ (relay [^\n]*)\n(.*?)```", whole, re.DOTALL)]


@pytest.mark.parametrize(("page", "text"), CONFIGURATIONS, ids=[page for page, _ in CONFIGURATIONS])
def test_the_configurations_are_good(
    page: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is copied from a page passes `relay check` without a warning about the provider, once the secrets are there."""
    for name in re.findall(r"\$\{env:(\w+)\}", text):
        start = {"AWS_ACCESS_KEY_ID": "AKIAFAKEFAKEFAKEFAKE", "LOWCODEAPI_TOKEN": "at_fake-0000"}
        monkeypatch.setenv(name, start.get(name, "fake-secret-0000"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for name in re.findall(r"\$\{(?:file:/etc/relay/|cred:)([\w-]+)\}", text):
        write(tmp_path / name, "fake-secret-0000\n")
    names = re.findall(r"(?m)^  (\w+):", text.partition("routes:")[0])
    routes = "" if "routes:" in text else f"routes: [{{name: default, via: [{', '.join(names)}]}}]\n"
    path = write(tmp_path / "relay.yaml", text.replace("/etc/relay/", f"{tmp_path}/") + routes)
    assert exits.OK == main(["check", str(path)]), capsys.readouterr().err
    assert [] == [line for line in capsys.readouterr().err.splitlines() if "providers." in line and "no route uses" not in line]


@pytest.mark.parametrize(("page", "typed", "shown"), SHOWN, ids=[f"{page}: {typed[14:]}" for page, typed, _ in SHOWN])
def test_the_examples_are_what_is_printed(
    page: str, typed: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command of a page prints what the page shows, but for ids and this host's name."""
    monkeypatch.chdir(tmp_path)
    for name, text in re.findall(r"```\n\$ cat (\S+)\n(.*?)```", PAGES[page], re.DOTALL):
        (tmp_path / name).write_text(text)
    assert exits.OK == main(shlex.split(typed)[1:])
    assert _always_alike(shown) == _always_alike(capsys.readouterr().out)


def _always_alike(text: str) -> str:
    return re.sub(r"<ID@[^>]*>", "<ID@HOST>", re.sub(r"\b[0-9A-F]{14}\b", "ID", text))


def test_every_provider_has_an_example_of_a_template() -> None:
    """Where templates are, a page shows one."""
    assert {"ses", "mailtrap", "postmark", "paubox"} == {page for page, typed, _ in SHOWN if "template.eml" in typed}


# Errors.


def plan(settings: config.Config, name: str, template: str = "") -> Any:
    """One request for one recipient, as the transport prepares it."""
    provider = settings.providers[name].model_copy(update={"mode": "api"})
    fields = f"X-Relay-Template: {template}\r\n" if template else ""

    async def prepared() -> Any:
        transport = assembly.transport_for(name, provider, settings)
        try:
            [found] = await transport.prepare(accepted(letter(fields), ["ann@example.net"]))
        finally:
            await transport.aclose()
        return found.plan

    return asyncio.run(prepared())


def answer(status: int, body: object = None, **headers: str) -> Answer:
    """An answer of an API; without a body it is one that nobody documents."""
    raw = b"<html>" if body is None else json.dumps(body).encode()
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw, "api.example[192.0.2.1]:443", 0.1, 0.1)


def verdict(outcomes: Any) -> str:
    """The one outcome's verdict."""
    [outcome] = outcomes.values()
    assert isinstance(outcome, Outcome)
    return outcome.verdict.value


def said(cell: str) -> Iterator[tuple[int, str]]:
    """Each (HTTP status, text) of the first cell: a text belongs to the numbers before it, and without one the text is ""."""
    for piece in re.split(r', (?=\d{3}\b(?![^"]*"(?:[^"]*"[^"]*")*[^"]*$))', cell):
        numbers = [int(number) for number in re.findall(r"\b\d{3}\b", re.sub(r'"[^"]*"', "", piece))]
        texts = re.findall(r'"([^"]*)"', piece) or [""]
        yield from ((number, text) for number in numbers for text in texts)


def _mailtrap(request: Any, status: int, text: str) -> str:
    body = {"errors": [text]} if text else None
    return verdict(mailtrap.read(answer(status, body), request, Asker("transactional", 17)))


def _paubox(request: Any, status: int, text: str) -> str:
    body = {"errors": [{"code": status, "title": "Error", "details": text}]} if text else None
    return verdict(paubox.read(answer(status, body), request, key_length=17))


def _lowcodeapi(request: Any, status: int, text: str) -> str:
    body = {"message": text, "provider": "awsses"} if text else None
    return verdict(lowcodeapi.read(answer(status, body), request, "at_fake-0000"))


BY_TEXT: dict[str, Callable[[Any, int, str], str]] = {"mailtrap": _mailtrap, "paubox": _paubox, "lowcodeapi": _lowcodeapi}
ERRORS = [
    pytest.param(page, *one, row[1], id=f"{page} {one[0]} {one[1][:30]}")
    for page in BY_TEXT
    for row in rows(page, "Errors")[1:]
    for one in said(row[0])
]


@pytest.mark.parametrize(("page", "status", "text", "told"), ERRORS)
def test_errors_mean_what_is_told(tmp_path: Path, page: str, status: int, text: str, told: str) -> None:
    """Each status and each text of a page's table has the verdict that stands beside it."""
    assert told.partition(",")[0] == BY_TEXT[page](plan(configured(tmp_path), page), status, text)


def test_a_provider_s_own_tables_are_long_enough() -> None:
    """Rows are not lost on the way from the page into the tests."""
    assert {"mailtrap": 22, "paubox": 23, "lowcodeapi": 11} == {
        page: len([one for one in ERRORS if one.values[0] == page]) for page in BY_TEXT
    }


POSTMARK = [row for row in rows("postmark", "Errors")[1:]]


@pytest.mark.parametrize("row", POSTMARK, ids=lambda row: row[0][:40])
def test_errors_of_postmark_mean_what_is_told(tmp_path: Path, row: list[str]) -> None:
    """Each ErrorCode alone and in a batch, and each HTTP status without one."""
    request = replace(plan(configured(tmp_path), "postmark"), uses={"domain": "example.com", "stream": "outbound", "template": "welcome"})
    statuses = [int(number) for number in re.findall(r"HTTP (\d{3})", row[0])]
    codes = [int(code) for code in re.findall(r"`(\d+)`", row[0])]
    for code in codes:
        for text in re.findall(r'"([^"]*)"', row[0]) or [
            "You tried to send to inactive addresses: ann@example.net. Inactive recipients are"
        ]:
            item = {"ErrorCode": code, "Message": text}
            assert row[1] == verdict(postmark.read(answer(statuses[0] if statuses else 422, item), request, token_length=36))
            [found] = postmark.read_together(answer(200, [item]), [request], token_length=36) or []
            assert row[1] == verdict(found)
    for status in statuses if not codes else []:
        assert row[1] == verdict(postmark.read(answer(status), request, token_length=36))


SES_CODES = [
    pytest.param(code, row[1], id=code)
    for row in rows("ses", "Errors")[1:]
    if '"' not in row[0] and " for " not in row[0]
    for code in re.findall(r"`(\w+)`", row[0])
]
SES_STATUS = {"InternalServiceErrorException": 500, "ServiceUnavailable": 503, "ConcurrentModificationException": 500}


@pytest.mark.parametrize(("code", "told"), SES_CODES)
def test_errors_of_amazon_ses_mean_what_is_told(tmp_path: Path, code: str, told: str) -> None:
    """Each code that stands in a row without a text."""
    request = plan(configured(tmp_path), "ses")
    asker = ses_reply.asker("eu-west-1", Keys("AKIAFAKEFAKEFAKEFAKE", "fake-secret-0000", ""))
    found = verdict(ses.read(answer(SES_STATUS.get(code, 400), {"message": "x"}, x_amzn_errortype=code), request, asker))
    assert found in re.findall(r"[A-Z-]{4,}", told)


SES_TEXTS = [pytest.param(text, row[1], id=text) for row in rows("ses", "Errors")[1:] for text in re.findall(r'"([^"]*)"', row[0])]


@pytest.mark.parametrize(("text", "told"), SES_TEXTS)
def test_texts_of_amazon_ses_mean_what_is_told(tmp_path: Path, text: str, told: str) -> None:
    """Each text, below a code that blames the message, or the signature where the text is about that."""
    code = "SignatureDoesNotMatch" if text.startswith(("Signature", "Credential")) else "MessageRejected"
    asker = ses_reply.asker("eu-west-1", Keys("AKIAFAKEFAKEFAKEFAKE", "fake-secret-0000", ""))
    found = verdict(ses.read(answer(400, {"message": text}, x_amzn_errortype=code), plan(configured(tmp_path), "ses"), asker))
    assert told == found


def by_smtp() -> Iterator[tuple[str, int, str, str]]:
    """(dialect, code, text, verdict) of each reply in the table of the SMTP doors."""
    dialect = ""
    for row in rows("smtp", "Errors")[1:]:
        dialect = {"Amazon SES": "ses"}.get(row[0], row[0].lower()) or dialect
        code = 0
        for number, text in re.findall(r'(\d{3})?(?: |, )?"([^"]*)"', row[1]):
            code = int(number or code)
            yield dialect, code, text, row[2].partition(",")[0]


@pytest.mark.parametrize(("dialect", "code", "text", "told"), list(by_smtp()))
def test_replies_by_smtp_mean_what_is_told(dialect: str, code: int, text: str, told: str) -> None:
    """Each reply of the table, at the stage where it comes."""
    stage = "auth" if code == 535 or "authentication" in text else "dot"
    about = About(["app@example.com"], ["ann@example.net"], "news")
    found = judged(dialect, stage, esmtp.Reply(code, text), "ann@example.net", about, "smtp.example[192.0.2.1]:587")
    assert told == found.verdict.value


@pytest.mark.parametrize("page", ["ses", "mailtrap", "postmark", "paubox", "lowcodeapi", "smtp"])
def test_every_row_names_a_verdict_and_what_to_do(page: str) -> None:
    """No table of errors has an empty cell, or a verdict that there is not."""
    known = {one.value for one in Verdict}
    for row in rows(page, "Errors"):
        if row[-3] in ("error", "reply"):
            continue
        assert row[-3]
        assert row[-1]
        assert known >= set(re.findall(r"\b(?:[A-Z]{5,8}|PERM-[A-Z]+)\b(?=$|[,;: ])", row[-2])) - {"MAIL", "FROM"} != set(), row


def test_what_is_kept_of_paubox_s_words() -> None:
    """The page's example of an error that quotes the mail."""
    [(said_, kept)] = re.findall(r'"([^"]*)" stands as `([^`]*)`', " ".join(PAGES["paubox"].split()))
    assert kept == words.shown(said_)


# Limits and doors.

MEGA = 1024 * 1024
LIMITS = [
    ("ses", "message |", ses.request.MAX_MESSAGE),
    ("ses", "recipients of a request", payload.MAX_RECIPIENTS),
    ("ses", "message tag", options.MAX_TAG),
    ("ses", "further header fields", simple.MAX_HEADERS),
    ("ses", "further header fields", simple.MAX_HEADER_VALUE),
    ("ses", "a template's data", simple.MAX_DATA),
    ("mailtrap", "request |", mailtrap_request.MAX_REQUEST),
    ("mailtrap", "recipients", mailtrap_request.MAX_RECIPIENTS),
    ("mailtrap", "category", mailtrap_request.MAX_CATEGORY),
    ("mailtrap", "custom variables", mailtrap_request.MAX_VARIABLES),
    ("postmark", "request |", postmark_request.MAX_REQUEST),
    ("postmark", "text, and HTML", refused.POSTMARK_BODY),
    ("postmark", "recipients", postmark_request.MAX_RECIPIENTS),
    ("postmark", "From", refused.POSTMARK_FROM),
    ("postmark", "Subject", refused.POSTMARK_SUBJECT),
    ("postmark", "tag", stamps.MAX_POSTMARK_TAG),
    ("postmark", "metadata", stamps.MAX_METADATA),
    ("postmark", "metadata", stamps.MAX_METADATA_KEY),
    ("postmark", "metadata", stamps.MAX_METADATA_VALUE),
    ("postmark", "blocked files", len(refused.BLOCKED["postmark"])),
    ("paubox", "recipients of a message", paubox_request.MAX_RECIPIENTS),
    ("paubox", "files", paubox_request.MAX_FILES),
    ("paubox", "files", paubox_request.OLD_MAX_FILES),
    ("paubox", "request |", paubox_request.MAX_REQUEST),
    ("paubox", "batch", paubox_request.MAX_BATCH),
    ("lowcodeapi", "request |", lowcodeapi.request.MAX_MESSAGE),
    ("lowcodeapi", "recipients", payload.MAX_RECIPIENTS),
]


@pytest.mark.parametrize(("page", "what", "number"), LIMITS)
def test_limits_are_those_of_the_code(page: str, what: str, number: int) -> None:
    """The number that the code holds stands in its row."""
    found = [" | ".join(row) for row in rows(page, "Limits")]
    [line] = [line for line in found if line.startswith(what)]
    assert re.search(rf"(?<!\d)(?<!\d,){number:,}(?!\d)(?!,\d)", line), line


def test_defaults_are_those_of_the_code(tmp_path: Path) -> None:
    """Batches and sizes that hold where nothing is configured."""
    providers = configured(tmp_path).providers
    for page in ("mailtrap", "postmark"):
        transport = assembly.transport_settings(page, providers[page].model_copy(update={"mode": "api"}), configured(tmp_path))
        [batch] = [row for row in rows(page, "Limits") if row[0] == "batch"]
        assert isinstance(transport, mailtrap.MailtrapSettings | postmark.PostmarkSettings)
        assert f"{transport.batching.jobs} messages" in batch[1]
        assert f"{transport.batching.octets:,}" in batch[1]
    paubox_settings = assembly.transport_settings("paubox", providers["paubox"].model_copy(update={"mode": "api"}), configured(tmp_path))
    assert isinstance(paubox_settings, paubox.PauboxSettings)
    assert 1 == paubox_settings.batching.jobs


def test_numbers_of_lists() -> None:
    """How many types of file and fields there are beside those that a page names."""
    whole = [" ".join(PAGES[page].split()) for page in ("ses", "postmark")]
    assert f"`.exe`, `.js`, `.vbs` and {len(refused.BLOCKED['ses']) - 3} others" in whole[0]
    assert f"`DKIM-Signature` and {len(singles.FIELDS) - 4} others" in whole[0]
    assert f"`.exe`, `.vbs` and {len(refused.BLOCKED['postmark']) - 2} other types" in whole[1]


def test_the_doors_are_those_of_the_code() -> None:
    """Hosts and ports in the table of doors."""
    cells = {row[0]: row for row in rows("providers", "Which way")}
    doors = {
        "Mailtrap": [presets.mailtrap(stream) for stream in ("transactional", "bulk", "sandbox")],
        "Postmark": [presets.postmark(stream) for stream in ("outbound", "broadcast")],
        "Paubox": [presets.paubox("")],
        "Amazon SES": [presets.ses("REGION", "")],
    }
    for name, found in doors.items():
        assert {door.host for door in found} == set(re.findall(r"`([\w.-]+)`", cells[name][2]))
        assert {port for door in found for port in door.ports} == {int(port) for port in re.findall(r"\b\d+\b", cells[name][2])}
    apis = {
        "Mailtrap": set(mailtrap_request.HOSTS.values()),
        "Postmark": {postmark.PostmarkSettings("p", "fake").base_url},
        "Paubox": {paubox.PauboxSettings("p", "fake").url.removesuffix("/v1/")},
        "LowCodeAPI": {lowcodeapi.LowCodeSettings("l", "fake").base_url.removesuffix("/awsses")},
        "Amazon SES": {ses.SesSettings("s", "REGION").url},
    }
    for name, urls in apis.items():
        assert {url.removeprefix("https://").removesuffix("/v1") for url in urls} == set(re.findall(r"`([\w.-]+)`", cells[name][1]))
