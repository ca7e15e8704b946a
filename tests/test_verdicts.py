"""The verdict functions against docs/verdicts.md, row by row: the page is the table test."""

import re
from pathlib import Path

import pytest

from relay import verdicts
from relay.model import Kind, Outcome, Verdict

PAGE = (Path(__file__).parent.parent / "docs" / "verdicts.md").read_text()


def rows(title: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its two head lines."""
    section = PAGE.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("row", rows("What follows"), ids=lambda row: row[0])
def test_consequences_are_those_of_the_page(row: list[str]) -> None:
    """What follows from a verdict is what docs/verdicts.md says."""
    verdict = Verdict(row[0])
    found = verdicts.CONSEQUENCES[verdict]
    outcome = Outcome(verdict, verdicts.status(verdict), "text", "remote", identity="domain=example.com")
    yes = {True: "yes", False: "no"}
    actual = [
        verdict.value,
        outcome.kind.value,
        outcome.scope.value,
        found.log,
        found.pauses.value if found.pauses else "–",
        found.fail_over.value,
        yes[found.pinned],
        yes[found.bounces],
    ]
    assert row == actual
    assert found.bounces == (outcome.kind is Kind.FAILED)


def test_the_page_names_every_verdict() -> None:
    """No verdict is missing from the page."""
    assert {verdict.value for verdict in Verdict} == {row[0] for row in rows("What follows")}


@pytest.mark.parametrize("row", rows("SMTP replies"), ids=lambda row: f"{row[0]}: {row[1]}")
def test_smtp_replies_are_judged_as_on_the_page(row: list[str]) -> None:
    """Stage and reply give the verdict that docs/verdicts.md says."""
    stage, reply, verdict = row
    code, _, text = reply.partition(" ")
    actual = verdicts.smtp(stage, int(code), text) if code.isdigit() else verdicts.lost(stage)
    assert Verdict(verdict) == actual


@pytest.mark.parametrize("row", rows("HTTP replies"), ids=lambda row: f"{row[0]} {row[1]}")
def test_http_replies_are_judged_as_on_the_page(row: list[str]) -> None:
    """HTTP status and shape give the verdict that docs/verdicts.md says."""
    reply, documented, verdict = row
    for shape in {"yes": [True], "no": [False]}.get(documented, [True, False]):
        if reply.startswith("lost: "):
            actual = verdicts.http_lost(reply.removeprefix("lost: "))
        else:
            actual = verdicts.http(int(reply.split()[0]), documented=shape)
        assert Verdict(verdict) == actual


@pytest.mark.parametrize("stage", sorted(verdicts.STAGES))
@pytest.mark.parametrize("code", [-1, 0, 25, 199, 354, 600, 999])
def test_a_reply_that_is_none_counts_as_lost(stage: str, code: int) -> None:
    """A garbled reply is judged like a lost connection at its stage, never as permanent."""
    expected = Verdict.OK if (stage, code) == ("data", 354) else verdicts.lost(stage)
    assert expected == verdicts.smtp(stage, code, "garbage")


@pytest.mark.parametrize("stage", sorted(verdicts.STAGES))
def test_credential_trouble_never_bounces(stage: str) -> None:
    """530, 534, 535 and 538 pause the provider at whatever stage they come."""
    assert [Verdict.PAUSE] * 4 == [verdicts.smtp(stage, code, "5.7.8 no") for code in (530, 534, 535, 538)]


@pytest.mark.parametrize(
    ("verdict", "text", "expected"),
    [
        (Verdict.PERM_RCPT, "5.1.2 bad domain", "5.1.2"),
        (Verdict.PAUSE, "5.7.8 bad password", "4.7.8"),
        (Verdict.OK, "2.6.0 queued", "2.6.0"),
        (Verdict.RETRY, "try later", "4.3.0"),
        (Verdict.UNKNOWN, "", "4.4.2"),
        (Verdict.PERM_MSG, "5.9999.1 nonsense", "5.6.0"),
        (Verdict.PERM_MSG, "no 5.1.1 in front", "5.6.0"),
    ],
)
def test_status_is_the_reply_s_own_with_the_class_of_what_follows(verdict: Verdict, text: str, expected: str) -> None:
    """The enhanced code comes from the reply; its class says what follows here."""
    assert expected == verdicts.status(verdict, text)


def test_statuses_by_default_fit_every_verdict() -> None:
    """Every default status makes a valid outcome."""
    for verdict in Verdict:
        assert re.fullmatch(r"[245]\.\d+\.\d+", Outcome(verdict, verdicts.status(verdict), "x", "y", identity="z").status)
