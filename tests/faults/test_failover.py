"""A short run of each trouble in the suite, and what the books would say if they were wrong; the long runs are
`python -m tests.faults.failover`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.failover import Result, run
from tests.faults.troubles import KINDS, TROUBLES, Noted

SHORT = (
    ("killed", "smtp"),
    ("killed", "mailtrap"),
    ("killed before it answers", "smtp"),
    ("hanging", "smtp"),
    ("hanging", "postmark"),
    ("poison", "postmark"),
    ("401", "mailtrap"),
    ("403", "smtp"),
    ("429", "mailtrap"),
    ("503", "postmark"),
    ("cut before the body is complete", "smtp"),
    ("cut after the body", "mailtrap"),
)


@pytest.mark.e2e
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("name", "kind"), SHORT)
async def test_what_moves_and_what_stays(tmp_path: Path, name: str, kind: str) -> None:
    """All is delivered; twice only what was announced, by the provider that did not answer; nothing moves that must not."""
    result = await run(tmp_path, replace(TROUBLES[name], count=min(TROUBLES[name].count, 40)), kind, hurry=True, kills=1)
    print(result)
    assert [] == result.problems


def test_every_trouble_has_its_answers() -> None:
    """Each is staged for every kind of provider."""
    assert set(TROUBLES) == {name for name, _ in SHORT}
    for trouble in TROUBLES.values():
        assert set(KINDS) == set(trouble.moves)
        assert trouble.kills or {"postmark", "mailtrap"} == set(trouble.api)
        assert trouble.kills or trouble.smtp


SOUND = (Noted("before", "1", "a", 0.0), Noted("during-17", "2", "b", 1.0), Noted("after", "3", "a", 2.0))
WRONG = {
    "sound": ("503", SOUND, set(), ()),
    "though answered": (
        "killed",
        (*SOUND, Noted("before", "1", "a", 3.0)),
        {"1"},
        ("1 mails doubled though each was answered",),
    ),
    "lost": ("503", SOUND[1:], {"before"}, ("1 mails lost",)),
    "by both": (
        "killed before it answers",
        (*SOUND, Noted("before", "1", "b", 3.0)),
        {"1"},
        ("1 mails doubled: ['before']", "1 mails doubled across providers"),
    ),
    "as another entry": (
        "killed before it answers",
        (*SOUND, Noted("before", "4", "a", 3.0)),
        {"1", "4"},
        ("1 mails doubled: ['before']",),
    ),
    "not announced": ("killed before it answers", (*SOUND, Noted("before", "1", "a", 3.0)), set(), ("1 mails doubled: ['before']",)),
    "announced": ("killed before it answers", (*SOUND, Noted("before", "1", "a", 3.0)), {"1"}, ()),
    "did not move": ("503", (SOUND[0], SOUND[2]), set(), ("nothing went to the second provider",)),
    "moved": ("429", SOUND, set(), ("1 mails went to the second provider that must stay",)),
    "not back": ("503", SOUND[:2], set(), ("the first provider is not used again",)),
    "others moved": ("poison", (*SOUND, Noted("other", "5", "b", 3.0)), set(), ("the trouble of one message moved others",)),
}


@pytest.mark.parametrize("what", WRONG)
def test_books_that_are_wrong_are_seen(what: str) -> None:
    """Every rule that a run is judged by can be broken."""
    name, noted, announced, problems = WRONG[what]
    acked = {one.name for one in noted} | ({"before"} if what == "lost" else set())
    assert [*problems] == Result(TROUBLES[name], "smtp", acked, list(noted), announced=announced).problems
