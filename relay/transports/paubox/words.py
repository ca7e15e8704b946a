"""What is kept of an error's text: words in which an API speaks of a request, and nothing else.

Mail by Paubox may be about patients. What an API says of a message may quote its subject, a name or a value, and would then stand
in the log, in the queue and in a bounce. Which of Paubox's texts do so is not documented, so none is trusted: a word that is not in
the list, and every number, becomes […]. Pure; reads any text.
"""

from __future__ import annotations

import re

_WORDS = (
    "a about above access account action address addresses again all allowed already an and any api are as at attachment attachments "
    "attribute authorization authorized back bad base64 bcc be been before below body bulk but by can can't cannot cc characters "
    "check code contain contains content contents could custom data deactivated decoded denied details did disabled does doesn't "
    "domain domains down dynamic e-mail email emails empty encoded encoding endpoint entity error errors exceed exceeded exceeds "
    "exist expected failed field fields file filename files for forbidden format found from gateway gone got has have header headers "
    "here html http https id if in inactive incorrect information internal invalid is isn't issue it its json key keys larger later "
    "least length limit limits line lines list long malformed mandatory match matching maximum may mb message messages minute minutes "
    "missing month monthly more must name need needs no non none not nothing null number of off ok on one only or organization out "
    "overage parameter parameters parse payload payment per permission permissions plain plan please post processing provided quota "
    "rate reached receipt recipient recipients reply reply-to request requests required resource retry same seconds secure send "
    "sender sending sent server service should size soon source sourcetrackingid specified status string subject such support "
    "supported suspended syntax system template templates temporarily temporary text than that the there this timed timeout to token "
    "too tracking try type unable unauthorized unavailable unexpected unknown unprocessable unsupported unverified url used user "
    "username valid value values variable variables verified verify wait was we were which while with within wrong you your"
)
_KNOWN = frozenset(_WORDS.split())
_AROUND = ".,:;!?()[]{}'\"`“”"
_JOINTS = re.compile(r"[./_:-]")
_LEFT_OUT = "[…]"


def shown(text: str) -> str:
    """The text with […] for everything that could be a message's."""
    found: list[str] = []
    for chunk in text.split():
        word = chunk.strip(_AROUND).lower()
        if not word or word in _KNOWN or all(piece in _KNOWN for piece in _JOINTS.split(word)):
            found.append(chunk)
        elif not found or found[-1] != _LEFT_OUT:
            found.append(_LEFT_OUT)
    return " ".join(found)
