"""The configuration's routes: which mail they take, which providers carry it, and the tests that say what is expected of them.

What must hold between their keys is judged in relay/config/routes.py; the tests are run by relay/config/cases.py.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from relay.config import kinds, values
from relay.config.kinds import OneOrMore, choice, or_word
from relay.config.section import Section, setting
from relay.routing import Priority, Sticky

Overflow = Literal["wait", "spill"]

Globs = Annotated[tuple[kinds.AddressGlob, ...], OneOrMore()]
TextGlobs = Annotated[tuple[kinds.Glob, ...], OneOrMore()]
Mailboxes = Annotated[tuple[kinds.MailboxGlob, ...], OneOrMore()]
Names = Annotated[tuple[kinds.Name, ...], OneOrMore(), BeforeValidator(values.names)]
Fields = Annotated[dict[kinds.FieldName, TextGlobs], BeforeValidator(values.fields)]


class NotConfig(Section):
    """Conditions of which at least one does not hold."""

    from_: Globs = setting((), alias="from", examples=["*@example.com"], description='Reverse-path (glob); "<>" is the null one.')
    header_from: Mailboxes = setting((), examples=["*@example.com"], description="Any address of the From field (glob).")
    to: Mailboxes = setting((), examples=["*@example.net"], description="Recipient (glob); each recipient is routed by itself.")
    client: Annotated[tuple[kinds.Network, ...], OneOrMore()] = setting(
        (), examples=["127.0.0.0/8"], description="Network of the client (CIDR)."
    )
    user: Annotated[tuple[kinds.UserGlob, ...], OneOrMore()] = setting(
        (), examples=["app*"], description="Name that the client logged in with (glob); none without a login."
    )
    listener: Names = setting((), examples=["local"], description="Name of the listener.")
    header: Fields = setting({}, examples=[{"List-Unsubscribe": "*"}], description="Header fields and globs on their text.")
    directive: dict[kinds.Directive, TextGlobs] = setting(
        {},
        examples=[{"stream": "broadcast"}],
        description="What control headers ask for, by relay's names (stream, tag, metadata.KEY…), and globs.",
    )
    larger: kinds.OptionalSize = setting(None, examples=["10MB"], description="Messages larger than this.")
    smaller: kinds.OptionalSize = setting(None, examples=["1MB"], description="Messages smaller than this.")


class MatchConfig(NotConfig):
    """Conditions of a route: all given ones must hold, a list means any of its items."""

    not_: NotConfig | None = setting(
        None,
        alias="not",
        examples=[{"to": "*@example.org"}],
        description="The same keys again: mail for which all of these hold is not taken.",
    )


class StepBackConfig(Section):
    """When a ramp goes back: a newcomer's refusals or deferrals among its answers pass a limit."""

    refused: kinds.Percentage = setting("5%", description="Most of a newcomer's answers that may be refusals.")
    deferred: kinds.Percentage = setting("20%", description="Most of a newcomer's answers that may be deferrals.")
    least: kinds.Least = setting(50, description="Answers that are looked at together, at most 1000; fewer say nothing.")
    by: kinds.PositiveDuration = setting("2d", description="How far a ramp goes back, and how long it stays there.")


class RampConfig(Section):
    """Shares that move with time: beside these keys stand the providers, each with its share at the beginning and the end."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, kinds.Shares]

    from_: kinds.Moment = Field(alias="from", examples=["2026-12-01"], description="When it begins: a date, or a date and a time in UTC.")
    over: kinds.PositiveDuration = Field(examples=["14d"], description="How long it takes.")
    step_back: Annotated[StepBackConfig | Literal["off"], or_word("off", of=StepBackConfig)] = setting(
        StepBackConfig(), description="When it goes back to where it was, because a newcomer refuses or defers too much; or off."
    )

    @property
    def shares(self) -> dict[str, tuple[float, float]]:
        """Provider -> its share at the beginning and at the end."""
        return dict(self.__pydantic_extra__ or {})


class RouteConfig(Section):
    """Which mail goes by which providers; the first route that matches is taken."""

    name: kinds.Name = Field(examples=["default"], description="Name of the route in logs and metrics.")
    match: MatchConfig = setting(MatchConfig(), description="Conditions; the last route has none and takes the rest.")
    via: Names = setting(
        (), examples=["postmark"], description="Provider, or several in order: the next one only where the mail was surely not taken."
    )
    split: dict[kinds.Name, kinds.Weight] = setting(
        {},
        examples=[{"ses": 80, "mailtrap": 20}],
        description="In place of via: providers and their weights, of which only the ratios count.",
    )
    ramp: RampConfig | None = setting(
        None,
        examples=[{"from": "2026-12-01", "over": "14d", "ses": "100..0", "mailtrap": "0..100"}],
        description="In place of via: providers and shares that change day by day from one to the other.",
    )
    sticky: Annotated[Sticky, choice(Sticky)] = setting(
        "recipient", description="What keeps to its side of a split or ramp: the mail of a recipient, of a sender, or each message."
    )
    fallback: Names = setting(
        (), examples=["smarthost"], description="Providers after the chosen one, in order: for what it surely did not take."
    )
    patience: kinds.Duration = setting(
        "15m", description="How long a message that one provider keeps deferring stays with it before the next one is tried."
    )
    overflow: Annotated[Overflow, choice(Overflow)] = setting(
        "wait", description="What a provider's limits do not let go now: wait for it, or spill over to the next provider."
    )
    priority: Annotated[Priority, choice(Priority)] = setting(
        "normal", description="Share of a busy provider: high, normal or low, as 16 : 4 : 1; none is ever starved."
    )
    allow_recipients: Mailboxes = setting(
        (),
        examples=["*@example.com"],
        description="Staging guard: recipients (globs) that really get mail; the others' is redirected, captured or refused.",
    )
    redirect: kinds.NullOrMailAddress = setting(
        None,
        examples=["qa@example.com"],
        description="Staging guard: who gets the mail of the others, or all mail without allow_recipients.",
    )
    capture: kinds.NullOrName = setting(
        None,
        examples=["sandbox"],
        description="Staging guard: provider that delivers to nobody and gets the mail of the others in their place.",
    )
    shadow: kinds.NullOrName = setting(
        None,
        examples=["mailtrap"],
        description="Provider for which every message is built too, to see what it would refuse or lose; only a sandbox is sent it.",
    )


class CaseConfig(Section):
    """A mail, and what is expected of the routes; run by relay check."""

    from_: kinds.ReversePath = Field(alias="from", examples=["app@example.com"], description='Reverse-path; "<>" is the null one.')
    to: Annotated[tuple[kinds.Recipient, ...], OneOrMore()] = Field(
        examples=["user@example.net"], description="Recipient, or several that are all expected to go alike."
    )
    expect: kinds.NullOrName = setting(None, examples=["postmark"], description="Provider that is expected to be tried first.")
    route: kinds.NullOrName = setting(None, examples=["default"], description="Route that is expected to take it.")
    header: Annotated[dict[kinds.FieldName, kinds.Text], BeforeValidator(values.fields)] = setting(
        {}, examples=[{"Subject": "Hello"}], description="Header fields of the mail."
    )
    header_from: kinds.NullOrMailAddress = setting(
        None, examples=["news@example.com"], description="Address of its From field; by default the reverse-path."
    )
    client: kinds.OptionalClientAddress = setting(None, examples=["10.0.0.7"], description="Address of the client; by default this host's.")
    user: kinds.OptionalText = setting(None, examples=["app1"], description="Name that the client logged in with.")
    listener: kinds.NullOrName = setting(None, examples=["local"], description="Listener that takes it; by default the first one.")
    size: kinds.Size = setting("4kB", description="Size of the message.")
