"""How much of each provider is used, at once and in a time, and how much goes in one request: the sections `limits` and `batch`.

Defaults are what the providers document (2026-11); `size` counts the octets that are sent, so after base64.
"""

from __future__ import annotations

from typing import Annotated, Any

from relay.budgets import Count
from relay.config import kinds
from relay.config.kinds import choice
from relay.config.section import Section, setting


def _size(default: str) -> Any:
    text = "Largest message handed over, counted after base64 (attachments grow by a third); a larger one goes to the next of via."
    return setting(default, description=text)


def _rate(default: Any = "off") -> Any:
    text = "Most in a time, such as 14/s or 150/10s, or a list of such; off is no limit."
    return setting(default, examples=["14/s"], description=text)


def _daily() -> Any:
    return setting("off", examples=[50000], description="Most in any 24 hours; off is no limit.")


def _monthly() -> Any:
    return setting("off", examples=[1000000], description="Most in a calendar month (UTC); off is no limit.")


def _count(default: str = "messages") -> Any:
    return setting(default, description="What rate, daily and monthly count: requests, messages or recipients.")


def _shared_with() -> Any:
    text = "Provider of the same account whose budget (rate, daily, monthly, count) this one spends as well; without it it has its own."
    return setting(None, examples=["mailtrap"], description=text)


def _wait() -> Any:
    return setting("1s", description="Longest wait for other messages, at most 1m; with nothing else due a message leaves at once.")


class LimitsConfig(Section):
    """How much of a smarthost is used at once."""

    concurrency: kinds.Concurrency = setting(20, description="Attempts under way at the same time.")
    rate: kinds.OffOrRates = _rate()
    daily: kinds.OffOrBudget = _daily()
    monthly: kinds.OffOrMonthly = _monthly()
    count: Annotated[Count, choice(Count)] = _count()
    shared_with: kinds.NullOrName = _shared_with()


class SesLimitsConfig(Section):
    """How much of Amazon SES is used at once."""

    concurrency: kinds.Concurrency = setting(20, description="Attempts under way at the same time.")
    rate: kinds.OffOrAutoOrRates = setting(
        "auto", description="Most in a time, such as 14/s, or a list of such; auto asks the account, off is no limit."
    )
    daily: kinds.OffOrAutoOrBudget = setting("auto", description="Most in any 24 hours; auto asks the account, off is no limit.")
    monthly: kinds.OffOrMonthly = _monthly()
    count: Annotated[Count, choice(Count)] = _count("recipients")
    shared_with: kinds.NullOrName = _shared_with()
    size: kinds.MessageSize = _size("40MiB")


class PostmarkLimitsConfig(Section):
    """How much of Postmark is used at once."""

    concurrency: kinds.Concurrency = setting(10, description="Requests under way at the same time.")
    rate: kinds.OffOrRates = _rate()
    daily: kinds.OffOrBudget = _daily()
    monthly: kinds.OffOrMonthly = _monthly()
    count: Annotated[Count, choice(Count)] = _count()
    shared_with: kinds.NullOrName = _shared_with()
    size: kinds.MessageSize = _size("10MiB")


class MailtrapLimitsConfig(Section):
    """How much of Mailtrap is used at once."""

    concurrency: kinds.Concurrency = setting(
        10, description="Requests, or connections by SMTP (of which Mailtrap takes 10), at the same time."
    )
    rate: kinds.OffOrRates = _rate("150/10s")
    daily: kinds.OffOrBudget = _daily()
    monthly: kinds.OffOrMonthly = _monthly()
    count: Annotated[Count, choice(Count)] = _count("requests")
    shared_with: kinds.NullOrName = _shared_with()
    size: kinds.MessageSize = _size("10MB")


class PauboxLimitsConfig(Section):
    """How much of Paubox is used at once."""

    concurrency: kinds.Concurrency = setting(10, description="Requests, or connections by SMTP, at the same time.")
    rate: kinds.OffOrRates = _rate()
    daily: kinds.OffOrBudget = _daily()
    monthly: kinds.OffOrMonthly = _monthly()
    count: Annotated[Count, choice(Count)] = _count()
    shared_with: kinds.NullOrName = _shared_with()
    size: kinds.MessageSize = _size("50MB")


class LowCodeLimitsConfig(Section):
    """How much of LowCodeAPI is used at once."""

    concurrency: kinds.Concurrency = setting(1, description="Requests under way at the same time; no limit of LowCodeAPI is documented.")
    rate: kinds.OffOrRates = _rate("1/s")
    daily: kinds.OffOrBudget = _daily()
    monthly: kinds.OffOrMonthly = _monthly()
    count: Annotated[Count, choice(Count)] = _count("requests")
    shared_with: kinds.NullOrName = _shared_with()
    size: kinds.MessageSize = _size("40MiB")


Limits = LimitsConfig | SesLimitsConfig | PostmarkLimitsConfig | MailtrapLimitsConfig | PauboxLimitsConfig | LowCodeLimitsConfig


class BatchConfig(Section):
    """How many messages go in one request, and how long one waits for others."""

    max: kinds.Batch = setting(500, description="Messages in one request, at most 500; 1 sends each by itself.")
    wait: kinds.Wait = _wait()


class PauboxBatchConfig(Section):
    """How many messages go to Paubox in one request, and how long one waits for others."""

    max: kinds.PauboxBatch = setting(1, description="Messages in one request, at most 50; 1 sends each by itself.")
    wait: kinds.Wait = _wait()
