"""A group's mail as it is to leave: the sender rewritten, the recipients redirected, where the configuration says so.

Promises: the stored entry keeps what the app said; where a group is redirected, none of its recipients is in the envelope.
Pure: it cannot fail but for a mistake of ours.
"""

from __future__ import annotations

from dataclasses import replace

from relay import rewriting
from relay.delivery.lanes import Group
from relay.model import Job, Message, Recipient


def job_of(group: Group, rules: rewriting.Rewriting, message: Message) -> Job:
    """The job of a group's recipients, whose stored octets are `message`."""
    entry = group.entry
    sender = entry.envelope.reverse_path
    edits = rules.edits(entry.header, entry.edits, sender)
    envelope = replace(entry.envelope, reverse_path=rules.reverse_path(sender)) if rules.rules else entry.envelope
    recipients = tuple(state.recipient for state in group.states)
    if group.route.guard:
        edits = rewriting.guarded(entry.header, edits)
    if group.redirect:
        edits = rewriting.redirected(entry.header, edits, group.redirect, group.addresses)
        recipients = (Recipient(group.redirect),)
        envelope = replace(envelope, recipients=recipients)
    return Job(
        queue_id=entry.queue_id,
        envelope=envelope,
        recipients=recipients,
        edits=edits,
        message=message,
        arrived=entry.arrived,
        bounce=entry.bounce,
        listener=entry.client.listener,
    )
