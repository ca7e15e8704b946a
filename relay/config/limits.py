"""How much of each provider is used at once, and how much goes in one request: the sections `limits` and `batch`.

Defaults are what the providers document (2026-11); `size` counts the octets that are sent, so after base64.
"""

from __future__ import annotations

from typing import Any

from relay.config import kinds
from relay.config.section import Section, setting


def _size(default: str) -> Any:
    text = "Largest message handed over, counted after base64 (attachments grow by a third); a larger one goes to the next of via."
    return setting(default, description=text)


def _wait() -> Any:
    return setting("1s", description="Longest wait for other messages, at most 1m; with nothing else due a message leaves at once.")


class LimitsConfig(Section):
    """How much of a smarthost is used at once."""

    concurrency: kinds.Concurrency = setting(20, description="Attempts under way at the same time.")


class SesLimitsConfig(Section):
    """How much of Amazon SES is used at once."""

    concurrency: kinds.Concurrency = setting(20, description="Attempts under way at the same time.")
    size: kinds.MessageSize = _size("40MiB")


class PostmarkLimitsConfig(Section):
    """How much of Postmark is used at once."""

    concurrency: kinds.Concurrency = setting(10, description="Requests under way at the same time.")
    size: kinds.MessageSize = _size("10MiB")


class MailtrapLimitsConfig(Section):
    """How much of Mailtrap is used at once."""

    concurrency: kinds.Concurrency = setting(
        10, description="Requests, or connections by SMTP (of which Mailtrap takes 10), at the same time."
    )
    size: kinds.MessageSize = _size("10MB")


class PauboxLimitsConfig(Section):
    """How much of Paubox is used at once."""

    concurrency: kinds.Concurrency = setting(10, description="Requests, or connections by SMTP, at the same time.")
    size: kinds.MessageSize = _size("50MB")


class LowCodeLimitsConfig(Section):
    """How much of LowCodeAPI is used at once."""

    concurrency: kinds.Concurrency = setting(1, description="Requests under way at the same time; no limit of LowCodeAPI is documented.")
    size: kinds.MessageSize = _size("40MiB")


class BatchConfig(Section):
    """How many messages go in one request, and how long one waits for others."""

    max: kinds.Batch = setting(500, description="Messages in one request, at most 500; 1 sends each by itself.")
    wait: kinds.Wait = _wait()


class PauboxBatchConfig(Section):
    """How many messages go to Paubox in one request, and how long one waits for others."""

    max: kinds.PauboxBatch = setting(1, description="Messages in one request, at most 50; 1 sends each by itself.")
    wait: kinds.Wait = _wait()
