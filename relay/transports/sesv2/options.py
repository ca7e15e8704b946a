"""The members of SendEmail beside the message and its recipients: what the app asks for, and what the configuration says.

Everything goes as a member and nothing as an X-SES field, also with a message that goes as it is: where both are given the
members win, and tags do not merge. Pure; what SES would refuse is a reason, nothing is raised.
Amazon SES API v2 reference 2026-11 (SendEmail, MessageTag, ListManagementOptions, ConfigurationOverrides); developer guide
2026-11, "Send email using Amazon SES event publishing"; botocore 1.44 for lengths.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from relay import directives
from relay.directives import Directives
from relay.fidelity import Loss
from relay.transports.stamps import SEALED

MAX_TAG = 256  # characters of a message tag's name, and of its value
QUEUE_ID = "relay-id"  # the message tag of our queue id
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # of a configuration set and a tenant
_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9_-]")
_TAKEN = (
    *("tag", "metadata", "stream", "track_opens", "track_links", "template"),
    *("configuration_set", "identity_arn", "list_management", "tenant"),
)


@dataclass(frozen=True, slots=True)
class Account:
    """What the configuration says of an account, "" for nothing; `streams` maps what apps ask for to configuration sets."""

    configuration_set: str = ""
    identity_arn: str = ""
    tenant: str = ""
    streams: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Options:
    """`members` of the request, what of the account they use, what is lost, and why it cannot be sent."""

    members: dict[str, object] = field(default_factory=dict)
    uses: dict[str, str] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def apart(self) -> bool:
        """Whether each recipient has a request of his own: an unsubscribe link is one contact's."""
        return "ListManagementOptions" in self.members

    def _lose(self, what: str) -> None:
        self.losses.append(Loss("cosmetic", what))

    def _checked(self, kind: str, name: str) -> str:
        what = kind.replace("_", " ")
        if not _NAME.fullmatch(name):
            self.reasons.append(f"{name[:40]!r} is not the name of a {what}")
        self.uses[kind] = name
        return name

    def add(self, asked: Directives, account: Account, queue_id: str, *, sealed: bool = False) -> None:
        """What is asked for, else what the configuration says. `sealed`: the message is signed or encrypted, so that tracking, which
        rewrites HTML, would break it: it is switched off, whatever the configuration set says."""
        self.members["EmailTags"] = self._tags(asked, queue_id)
        stream = directives.stream(asked, account.streams, "ses")
        if stream.loss:
            self._lose(stream.loss)
        if name := stream.name or account.configuration_set:
            self.members["ConfigurationSetName"] = self._checked("configuration_set", name)
        if arn := asked.identity_arn or account.identity_arn:
            if not arn.startswith("arn:"):
                self.reasons.append(f"{arn[:40]!r} is not the ARN of an identity")
            self.members["FromEmailAddressIdentityArn"] = arn
        if asked.list_management:
            self.members["ListManagementOptions"] = self._list(asked.list_management)
        if tenant := asked.tenant or account.tenant:
            self.members["TenantName"] = self._checked("tenant", tenant)
        self._track(asked, sealed=sealed)
        for phrase in directives.left_out(asked, *_TAKEN):
            self._lose(phrase)
        if asked.inline_css:
            self._lose("inline CSS is left out")

    def _track(self, asked: Directives, *, sealed: bool) -> None:
        tracking = {"OpenTrackingEnabled": asked.track_opens, "ClickTrackingEnabled": asked.track_links and asked.track_links != "None"}
        if sealed and any(tracking.values()):
            self._lose(SEALED)
        chosen = {
            name: "ENABLED" if on and not sealed else "DISABLED" for name, on in tracking.items() if sealed or (on is not None and on != "")
        }
        if chosen:
            self.members["ConfigurationOverrides"] = {"Tracking": chosen}

    def _tags(self, asked: Directives, queue_id: str) -> list[dict[str, str]]:
        """The app's own tags first: the queue id joins them and never takes one's place."""
        categories = {value for key, value in asked.metadata.items() if key.lower() in directives.CATEGORIES}
        pairs = [("category", asked.tag)] if asked.tag and asked.tag not in categories else []
        found: dict[str, tuple[str, str]] = {}
        for key, value in (*pairs, *asked.metadata.items()):
            name, text = (_NOT_IN_TAGS.sub("_", given) for given in (key, value))
            if not text or name[:MAX_TAG].lower() in found:
                self._lose(f"message tag {key[:40]!r} is left out")
                continue
            if (name, text) != (key, value):
                self._lose(f"message tag {key[:40]!r} is written with letters, digits, _ and - only")
            if max(len(name), len(text)) > MAX_TAG:
                self._lose(f"message tag {key[:40]!r} is cut to {MAX_TAG} characters")
            name, text = name[:MAX_TAG], text[:MAX_TAG]
            found[name.lower()] = (name, text)
        found.setdefault(QUEUE_ID, (QUEUE_ID, queue_id))
        return [{"Name": name, "Value": text} for name, text in found.values()]

    def _list(self, asked: str) -> dict[str, str]:
        chosen = directives.contact_list(asked)
        if chosen is None:  # without it the mail would also go to who has unsubscribed
            self.reasons.append(f"list management {asked[:40]!r} is not `list; topic=name`")
            return {"ContactListName": ""}
        name, topic = chosen
        self.uses["contact_list"] = name
        return {"ContactListName": name, **({"TopicName": topic} if topic else {})}
