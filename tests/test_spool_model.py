"""The spool against a model: whatever is done in whatever order, with restarts in between, both say the same."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from relay.model import FINAL, State, Verdict
from relay.spool.base import Filter, Recorded
from tests.spools import NOW, RELAYED, Clock, accept, deferred, leased, open_sqlite, outcome

T = TypeVar("T")
FAILED = Recorded(outcome(Verdict.PERM_RCPT, "550 no"), State.FAILED, told=True)


@dataclass
class Mail:
    """One recipient as the model sees it."""

    state: State = State.QUEUED
    next_attempt: float = NOW
    lease: float = 0.0
    attempts: int = 0
    waits: str = ""
    maybe: bool = False
    via: tuple[str, ...] = ()

    def due(self) -> float:
        return max(self.next_attempt, self.lease)


@dataclass
class Model:
    """Entries by queue id, then recipients by address."""

    entries: dict[str, dict[str, Mail]] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    begun: dict[int, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    spent: Counter[tuple[str, float]] = field(default_factory=Counter)
    kept: dict[str, str] = field(default_factory=dict)

    def queued(self, now: float, *, unleased: bool) -> list[Mail]:
        found = [mail for queue_id in self.entries for mail in self.entries[queue_id].values()]
        return [mail for mail in found if mail.state is State.QUEUED and not (unleased and mail.lease > now)]


class SpoolMachine(RuleBasedStateMachine):
    """Times move on with every step, so that nothing depends on a tie."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = Path(tempfile.mkdtemp())
        self.model = Model()
        self.clock = Clock()
        self.claimed: list[tuple[str, tuple[str, ...]]] = []

    def run(self, call: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await call

        return self.loop.run_until_complete(awaited())

    def now(self) -> float:
        self.clock.now += 1
        return self.clock.now

    @initialize()
    def begin(self) -> None:
        self.spool = self.run(open_sqlite(self.directory, self.clock))

    def teardown(self) -> None:
        self.run(self.spool.close())
        self.loop.close()
        shutil.rmtree(self.directory)

    @rule(recipients=st.integers(1, 3), large=st.booleans())
    def accept(self, recipients: int, large: bool) -> None:
        now = self.now()
        addresses = [f"{n}@example.net" for n in range(recipients)]
        entry = self.run(accept(self.spool, *addresses, now=now, body=b"\r\n" + b"x" * (300_000 if large else 10)))
        self.model.entries[entry.queue_id] = {address: Mail(next_attempt=now) for address in addresses}

    @rule(limit=st.integers(1, 3), lease=st.sampled_from([0.5, 5, 50]))
    def claim(self, limit: int, lease: float) -> None:
        now = self.now()
        due: dict[str, float] = {}
        for queue_id, mails in self.model.entries.items():
            times = [mail.due() for mail in mails.values() if mail.state is State.QUEUED and mail.due() <= now]
            if times:
                due[queue_id] = min(times)
        expected = sorted(due, key=lambda queue_id: (due[queue_id], queue_id))[:limit]
        found = self.run(self.spool.claim(now, limit, lease))
        assert expected == [entry.queue_id for entry in found]
        for entry in found:
            mails = self.model.entries[entry.queue_id]
            mine = {address for address, mail in mails.items() if mail.state is State.QUEUED and mail.due() <= now}
            assert mine == set(leased(entry, now))
            for address in mine:
                mails[address].lease, mails[address].waits = now + lease, ""
            self.claimed.append((entry.queue_id, tuple(sorted(mine))))

    @precondition(lambda self: self.claimed)
    @rule(what=st.sampled_from(["relayed", "failed", "later", "unknown", "decided", "begin", "postpone", "wait"]))
    def settle(self, what: str) -> None:
        now = self.now()
        queue_id, addresses = self.claimed.pop()
        mails = [self.model.entries[queue_id][address] for address in addresses]
        if what in ("postpone", "wait"):
            until = now + 20
            key = "k" if what == "wait" else ""
            self.run(self.spool.wait(queue_id, addresses, key, until) if key else self.spool.postpone(queue_id, addresses, until))
            for mail in mails:
                if mail.state is State.QUEUED:
                    mail.next_attempt, mail.lease, mail.waits = until, 0, key
            return
        number = 0 if what == "decided" else self.run(self.spool.begin(queue_id, addresses, "p", "r", now))
        if what == "begin":
            self.model.begun[number] = (queue_id, addresses)
            return
        recorded = {
            "relayed": RELAYED,
            "failed": FAILED,
            "later": deferred(now + 10),
            "decided": deferred(now + 10),
            "unknown": deferred(now + 10, Verdict.UNKNOWN),
        }[what]
        self.record(number, queue_id, addresses, recorded, now)

    def record(self, number: int, queue_id: str, addresses: tuple[str, ...], recorded: Recorded, now: float) -> None:
        for address in addresses:
            mail = self.model.entries[queue_id][address]
            if mail.state in FINAL and recorded.state is not State.RELAYED:
                continue
            if mail.state is not State.HELD or recorded.state is not State.QUEUED:  # held by an admin: it stays so
                mail.state, mail.waits = recorded.state, recorded.waits
            mail.next_attempt, mail.lease = recorded.next_attempt, 0
            mail.attempts += bool(number)
            mail.maybe = (mail.maybe or recorded.outcome.maybe_relayed) and recorded.state is not State.RELAYED
        closed = self.run(self.spool.record(queue_id, number, dict.fromkeys(addresses, recorded), "p", "r", now))
        assert closed == all(mail.state in FINAL for mail in self.model.entries[queue_id].values())
        ends = closed and queue_id not in self.model.finished
        assert ends == self.run(self.spool.finish(queue_id, now, keep_body=False))
        if ends:
            self.model.finished.add(queue_id)

    @rule()
    def wake(self) -> None:
        now = self.now()
        woken = [mail for mail in self.model.queued(now, unleased=False) if mail.waits]
        for mail in woken:
            mail.next_attempt, mail.waits = now, ""
        assert len(woken) == self.run(self.spool.wake("k", now))

    @rule()
    def hold(self) -> None:
        now = self.now()
        held = self.model.queued(now, unleased=True)
        for mail in held:
            mail.state, mail.waits, mail.lease = State.HELD, "", 0
        assert len(held) == self.run(self.spool.hold(Filter(), now))

    @rule()
    def release(self) -> None:
        now = self.now()
        held = [mail for mails in self.model.entries.values() for mail in mails.values() if mail.state is State.HELD]
        for mail in held:
            mail.state, mail.next_attempt = State.QUEUED, now
        assert len(held) == self.run(self.spool.release(Filter(), now))

    @rule()
    def retry(self) -> None:
        now = self.now()
        retried = self.model.queued(now, unleased=True)
        for mail in retried:
            mail.next_attempt, mail.waits, mail.lease = now, "", 0
        assert len(retried) == self.run(self.spool.retry(Filter(), now))

    @rule(recipient=st.sampled_from(["0@*", "*"]), via=st.sampled_from([("x",), ("x", "y"), ()]), sure=st.booleans())
    def reroute(self, recipient: str, via: tuple[str, ...], sure: bool) -> None:
        now = self.now()
        changed: dict[str, tuple[int, int]] = {}
        for queue_id, mails in self.model.entries.items():
            found = [mail for address, mail in mails.items() if mail.state not in FINAL and recipient in ("*", f"{address[0]}@*")]
            moved = [mail for mail in found if sure or not mail.maybe]
            if found:
                changed[queue_id] = (len(moved), len(found) - len(moved))
            for mail in moved:
                mail.via, mail.maybe, mail.waits = via, False, ""
                if mail.state is State.QUEUED and mail.lease <= now:
                    mail.next_attempt, mail.lease = now, 0
        assert changed == self.run(self.rerouted(recipient, via, now, sure))

    async def rerouted(self, recipient: str, via: tuple[str, ...], now: float, sure: bool) -> dict[str, tuple[int, int]]:
        chunks = self.spool.each("reroute", Filter(recipient=recipient), now, via, sure)
        return {one.queue_id: (one.recipients, one.pinned) async for chunk in chunks for one in chunk}

    @rule(budget=st.sampled_from("ab"), slot=st.integers(0, 3), amount=st.integers(0, 5))
    def spend(self, budget: str, slot: int, amount: int) -> None:
        self.model.spent[budget, float(slot)] += amount
        self.run(self.spool.spend([(budget, float(slot), amount)]))

    @rule(budget=st.sampled_from("ab"), before=st.integers(0, 3))
    def forget_spent(self, budget: str, before: int) -> None:
        for key in [key for key in self.model.spent if key[0] == budget and key[1] < before]:
            del self.model.spent[key]
        self.run(self.spool.forget_spent({budget: before}))

    @rule(key=st.sampled_from("ab"), value=st.sampled_from(["", "x", "y"]))
    def keep(self, key: str, value: str) -> None:
        self.model.kept[key] = value
        self.run(self.spool.keep(key, value))

    @rule()
    def delete(self) -> None:
        now = self.now()
        deleted = 0
        for queue_id, mails in self.model.entries.items():
            if "0@example.net" in mails:
                mail = mails["0@example.net"]
                if mail.state is State.HELD or (mail.state is State.QUEUED and mail.lease <= now):
                    deleted += 1
                    mail.state, mail.waits = State.DELETED, ""
                    if all(mail.state in FINAL for mail in mails.values()):
                        self.model.finished.add(queue_id)
        assert deleted == self.run(self.spool.delete(Filter(recipient="0@*"), now))

    @rule()
    def restart(self) -> None:
        self.run(self.spool.close())
        self.spool = self.run(open_sqlite(self.directory, self.clock))
        self.claimed.clear()
        for mails in self.model.entries.values():
            for mail in mails.values():
                mail.lease = 0
        begun = {found.attempt: (found.queue_id, found.recipients) for found in self.run(self.spool.unfinished())}
        unfinished = {
            number: (queue_id, tuple(a for a in addresses if self.model.entries[queue_id][a].state not in FINAL))
            for number, (queue_id, addresses) in self.model.begun.items()
        }
        assert begun == {number: found for number, found in unfinished.items() if found[1]}
        for number, (queue_id, addresses) in begun.items():
            now = self.now()
            self.record(number, queue_id, addresses, deferred(now + 10, Verdict.UNKNOWN) if number % 2 else RELAYED, now)
        assert [] == list(self.run(self.spool.unfinished()))
        self.model.begun.clear()

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "spool"):
            return
        ledger = sorted((budget, slot, amount) for (budget, slot), amount in self.model.spent.items())
        assert ledger == list(self.run(self.spool.spent()))
        assert {key: value for key, value in self.model.kept.items() if value} == self.run(self.spool.kept())
        open_ids = sorted(queue_id for queue_id in self.model.entries if queue_id not in self.model.finished)
        assert open_ids == [entry.queue_id for entry in self.run(self.spool.find(Filter(), 1000))]
        for queue_id, mails in self.model.entries.items():
            entry = self.run(self.spool.entry(queue_id))
            assert entry is not None
            assert (entry.finished is not None) == (queue_id in self.model.finished)
            for state in entry.recipients:
                mail = mails[state.recipient.address]
                assert (mail.state, mail.attempts, mail.waits, mail.maybe, mail.via) == (
                    state.state,
                    state.attempts,
                    state.waits,
                    state.maybe_relayed,
                    state.via,
                )
                if mail.state is State.QUEUED:
                    assert mail.next_attempt == state.next_attempt


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
