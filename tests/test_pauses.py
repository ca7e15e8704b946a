"""Pauses: who is left alone, who may probe, and what is said once."""

from collections.abc import Sequence
from dataclasses import replace

from relay.model import Outcome, Verdict
from relay.pauses import REMIND, Change, Standing, key, of_message

PAUSE = Outcome(Verdict.PAUSE, "4.7.8", "535 no", "remote", mend="mend the key")
THROTTLE = Outcome(Verdict.THROTTLE, "4.7.28", "429 slow", "remote", retry_after=7.0)
CONFIG = Outcome(Verdict.CONFIG, "4.7.1", "not verified", "remote", identity="domain=example.com")
SILENT = Outcome(Verdict.UNKNOWN, "4.4.2", "no answer", "remote", own=True)
OK = Outcome(Verdict.OK, "2.0.0", "250 Ok", "remote")
RETRY = Outcome(Verdict.RETRY, "4.3.0", "451 later", "remote")
WHO = ["domain=example.com"]


def standing() -> Standing:
    return Standing(lambda: 0.5)


def attempt(it: Standing, outcome: Outcome, now: float, identities: list[str] | None = None, message: str = "M") -> list[tuple[str, bool]]:
    """One attempt for a message with this outcome; (key, paused) of what changed."""
    leave = it.admit("ses", now, [*(identities or []), of_message(message)])
    assert leave is not None
    return told(it.settle(leave, [outcome], now, message))


def paused(it: Standing, outcome: Outcome, now: float, identities: list[str] | None = None) -> list[tuple[str, bool]]:
    """Two messages meet the same at once; (key, paused) of what the second one changed."""
    attempt(it, outcome, now, identities, "FIRST")
    return attempt(it, outcome, now, identities, "SECOND")


def told(changes: Sequence[Change]) -> list[tuple[str, bool]]:
    return [(change.pause.key, change.paused) for change in changes]


def test_a_refused_credential_pauses_the_provider_for_everybody() -> None:
    """After a PAUSE outcome nothing is admitted until the pause has run out."""
    it = standing()
    assert [("ses", True), ("ses message=FIRST", False)] == paused(it, PAUSE, 100.0)
    assert it.admit("ses", 114.0, []) is None
    blocked = it.blocked("ses", 114.0)
    assert blocked is not None
    assert (115.0, False) == (blocked.until, blocked.quiet)
    assert it.admit("postmark", 114.0, []) is not None


def test_exactly_one_probe_at_a_time() -> None:
    """When the pause has run out one attempt is admitted; the others wait for its outcome."""
    it = standing()
    paused(it, PAUSE, 100.0)
    probe = it.admit("ses", 120.0, [])
    assert probe is not None
    assert it.admit("ses", 120.0, []) is None
    assert it.blocked("ses", 120.0) is not None
    assert [("ses", False)] == told(it.settle(probe, [RETRY], 121.0, "LATE"))
    assert () == it.all()


def test_a_failed_probe_prolongs_the_pause_and_says_nothing() -> None:
    """The second failure in a row waits longer and is not told again."""
    it = standing()
    paused(it, PAUSE, 100.0)
    assert [] == attempt(it, PAUSE, 120.0)
    assert [150.0] == [pause.until for pause in it.all()]


def test_an_attempt_under_way_when_the_pause_began_does_not_end_it() -> None:
    """Only a probe says something new."""
    it = standing()
    early = it.admit("ses", 99.0, [])
    late = it.admit("ses", 99.0, [])
    assert early is not None
    assert late is not None
    it.settle(early, [PAUSE], 99.5, "EARLY")
    attempt(it, PAUSE, 100.0)
    assert [] == list(it.settle(late, [OK], 101.0, "LATE"))
    assert it.blocked("ses", 101.0) is not None


def test_a_probe_that_was_not_made_leaves_room_for_the_next() -> None:
    """An abandoned probe neither ends nor prolongs the pause."""
    it = standing()
    paused(it, PAUSE, 100.0)
    probe = it.admit("ses", 120.0, [])
    assert probe is not None
    it.abandon(probe)
    assert it.admit("ses", 120.0, []) is not None


def test_a_throttle_is_quiet_and_honours_retry_after() -> None:
    """THROTTLE waits as long as it was told, and a later refusal of the credential is loud."""
    it = standing()
    late = it.admit("ses", 99.0, [])
    assert late is not None
    assert [("ses", True)] == attempt(it, THROTTLE, 100.0)
    assert [(True, 107.0)] == [(pause.quiet, pause.until) for pause in it.all()]
    assert [("ses message=LATE", True)] == told(it.settle(late, [PAUSE], 101.0, "LATE"))
    assert [("ses message=M", True)] != attempt(it, PAUSE, 107.0)
    assert ["ses"] == [pause.key for pause in it.all() if not pause.quiet]


def test_a_misconfigured_identity_is_paused_alone() -> None:
    """Another sender domain goes on."""
    it = standing()
    assert [(key("ses", WHO[0]), True), ("ses message=FIRST", False)] == paused(it, CONFIG, 100.0, WHO)
    assert it.admit("ses", 101.0, WHO) is None
    assert it.blocked("ses", 101.0) is None
    assert it.admit("ses", 101.0, ["domain=example.org"]) is not None
    assert [(key("ses", WHO[0]), False)] == attempt(it, OK, 120.0, WHO)


def test_an_attempt_that_failed_on_the_provider_does_not_clear_the_identity() -> None:
    """A probe for an identity that meets a paused account says nothing about the identity."""
    it = standing()
    paused(it, CONFIG, 100.0, WHO)
    attempt(it, PAUSE, 120.0)
    assert ("ses", True) in attempt(it, PAUSE, 120.0, WHO, "N")
    assert {"ses", key("ses", WHO[0])} == {pause.key for pause in it.all()}


def test_probes_are_called_once_and_called_again_when_they_never_came() -> None:
    """A pause that has run out calls one waiting message, and another one only later."""
    it = standing()
    assert it.next_call() is None
    paused(it, PAUSE, 100.0)
    assert it.next_call() == 115.0
    assert [] == list(it.calls(114.0))
    assert ["ses"] == [pause.key for pause in it.calls(115.0)]
    assert [] == list(it.calls(116.0))
    assert it.next_call() == 115.0 + REMIND
    probe = it.admit("ses", 117.0, [])
    assert probe is not None
    assert it.next_call() is None


def test_an_admin_may_have_a_probe_at_once() -> None:
    """What was mended need not wait for the pause to run out."""
    it = standing()
    paused(it, PAUSE, 100.0)
    it.hurry(101.0)
    assert ["ses"] == [pause.key for pause in it.calls(101.0)]
    assert [("ses", False)] == attempt(it, OK, 101.0)


def test_a_second_refusal_of_the_same_kind_is_not_told_again() -> None:
    """Attempts that were under way when the pause began add nothing."""
    it = standing()
    late = it.admit("ses", 99.0, [])
    assert late is not None
    paused(it, PAUSE, 100.0)
    assert [] == list(it.settle(late, [PAUSE], 101.0, "LATE"))
    assert [115.0] == [pause.until for pause in it.all()]


def test_an_identity_may_block_where_the_provider_may_be_probed() -> None:
    """Every pause that concerns an attempt must have run out."""
    it = standing()
    paused(it, PAUSE, 100.0)
    assert [] == attempt(it, PAUSE, 115.0, WHO)
    assert it.blocked("ses", 145.0, WHO) is None
    assert [("ses", False), ("ses message=M", True)] == attempt(it, CONFIG, 145.0, WHO)
    assert [(key("ses", WHO[0]), True), ("ses message=M", False)] == attempt(it, CONFIG, 146.0, WHO, "N")
    assert it.blocked("ses", 147.0) is None
    identity = it.blocked("ses", 147.0, WHO)
    assert identity is not None
    assert key("ses", WHO[0]) == identity.key


def test_a_probe_of_a_throttle_that_meets_a_wrong_credential_is_loud() -> None:
    """What waited for the throttling is let go, for one message alone pauses nobody; the next one makes a pause that is told, with
    steps of its own."""
    it = standing()
    attempt(it, THROTTLE, 100.0)
    assert [("ses message=M", True), ("ses", False)] == attempt(it, PAUSE, 108.0)
    assert [("ses", True), ("ses message=M", False)] == attempt(it, PAUSE, 109.0, message="N")
    assert [(False, 124.0, 1)] == [(pause.quiet, pause.until, pause.failures) for pause in it.all()]


def test_a_probe_of_a_pause_that_is_only_throttled_ends_the_alarm() -> None:
    """The credential works again; the provider asks us to slow down, which is another thing."""
    it = standing()
    paused(it, PAUSE, 100.0)
    assert [("ses", False), ("ses", True)] == attempt(it, THROTTLE, 116.0)
    assert [True] == [pause.quiet for pause in it.all()]


def test_an_old_probe_does_not_end_the_pause_that_took_its_place() -> None:
    """Two probes under way for two pauses of one name: each decides its own only."""
    it = standing()
    late, later = it.admit("ses", 99.0, []), it.admit("ses", 99.0, [])
    assert late is not None
    assert later is not None
    attempt(it, THROTTLE, 100.0)
    old = it.admit("ses", 108.0, [])
    assert old is not None
    it.settle(late, [PAUSE], 109.0, "LATE")
    assert ("ses", True) in told(it.settle(later, [PAUSE], 109.0, "LATER"))
    new = it.admit("ses", 125.0, [])
    assert new is not None
    assert [] == told(it.settle(old, [OK], 126.0, "OLD"))
    assert [("ses", False)] == told(it.settle(new, [OK], 127.0, "NEW"))


def test_a_clock_that_steps_back_does_not_prolong_a_pause() -> None:
    """A pause that seems to end tomorrow is over."""
    it = standing()
    paused(it, PAUSE, 100_000.0)
    assert it.blocked("ses", 13_000.0) is None
    assert ["ses"] == [pause.key for pause in it.calls(13_000.0)]
    assert [] == list(it.calls(13_001.0))
    assert ["ses"] == [pause.key for pause in it.calls(5_000.0)]


def test_one_message_alone_pauses_nobody_else() -> None:
    """However often one message meets a refusal, others go on, and it is left alone for longer each time."""
    it = standing()
    assert [("ses message=M", True)] == attempt(it, PAUSE, 100.0)
    assert it.admit("ses", 101.0, [of_message("M")]) is None
    assert it.blocked("ses", 101.0, [of_message("N")]) is None
    assert ["ses message=M"] == [pause.key for pause in it.calls(115.0)]
    assert [] == attempt(it, PAUSE, 115.0)
    assert [(145.0, "M")] == [(pause.until, pause.message) for pause in it.all()]
    assert [("ses message=M", False)] == attempt(it, OK, 145.0)
    assert () == it.all()


def test_a_better_answer_in_between_clears_the_suspicion() -> None:
    """Two messages that meet the same on two days, with others sent in between, are two accidents."""
    it = standing()
    attempt(it, PAUSE, 100.0)
    attempt(it, OK, 101.0, message="N")
    assert [("ses message=O", True)] == attempt(it, PAUSE, 102.0, message="O")


def test_findings_of_two_kinds_are_two_first_ones() -> None:
    """A refused credential for one message and no answer for another do not add up."""
    it = standing()
    attempt(it, PAUSE, 100.0)
    assert [] == attempt(it, SILENT, 101.0, message="N")
    assert [("ses message=O", True)] == attempt(it, PAUSE, 102.0, message="O")


def test_requests_without_an_answer_pause_the_provider_for_what_was_not_handed_over() -> None:
    """Two messages in a row that nobody answered: the others need not be handed over as well."""
    it = standing()
    assert [] == attempt(it, SILENT, 100.0)
    assert [] == attempt(it, SILENT, 101.0)
    assert [("ses", True)] == attempt(it, SILENT, 102.0, message="N")
    assert [] == attempt(it, SILENT, 117.0, message="O")
    assert [("ses", False)] == attempt(it, OK, 147.0, message="P")


def test_our_own_bug_says_nothing_about_the_provider() -> None:
    """An unknown outcome of our own making is no finding."""
    it = standing()
    ours = replace(SILENT, remote="relay", own=True)
    attempt(it, ours, 100.0)
    assert [] == attempt(it, ours, 101.0, message="N")


def test_a_message_that_does_not_come_when_it_is_called_is_forgotten() -> None:
    """It went another way, and must not be called for ever."""
    it = standing()
    attempt(it, PAUSE, 100.0)
    assert 1 == len(it.calls(115.0))
    assert [] == list(it.calls(115.0 + REMIND))
    assert () == it.all()


def test_an_admin_s_pause_ends_by_an_admin_s_word() -> None:
    """Neither time, a hurry, a reload nor an attempt that was under way ends it."""
    it = standing()
    late = it.admit("ses", 99.0, [])
    assert late is not None
    assert it.pause("ses", PAUSE, 100.0).paused
    assert [] == told(it.settle(late, [OK], 101.0, "LATE"))
    it.hurry(102.0)
    assert [] == list(it.forget("ses"))
    assert [] == list(it.calls(1e12))
    assert it.next_call() is None
    blocked = it.blocked("ses", 1e12)
    assert blocked is not None
    assert blocked.by_admin
    assert [("ses", False)] == told(it.resume("ses"))
    assert it.blocked("ses", 103.0) is None


def test_a_used_up_quota_is_waited_for_until_it_is_new() -> None:
    """However far away that is; a probe decides then."""
    it = standing()
    change = it.exhausted("ses", THROTTLE, 100.0, 86_500.0)
    assert change is not None
    assert (True, True, 86_500.0) == (change.paused, change.pause.quiet, change.pause.until)
    assert it.exhausted("ses", THROTTLE, 101.0, 86_500.0) is None
    it.hurry(102.0)
    assert it.blocked("ses", 86_499.0) is not None
    assert ["ses"] == [pause.key for pause in it.calls(86_500.0)]
    assert [("ses", False)] == attempt(it, OK, 86_500.0)
