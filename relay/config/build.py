"""From plain data to the configuration's records, finding every mistake on the way.

Each section is read by its model. Where some keys of a section are wrong, the section is still built from the others
(with a stand-in for what is required), so that the checks across keys and sections can go on; `bad` then names the keys
that must not be judged any further.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from relay import routing
from relay.config import guesses, values
from relay.config.model import (
    LATER,
    NEVER,
    AdminConfig,
    BounceConfig,
    ListenConfig,
    LogConfig,
    QueueConfig,
    Root,
    SendersConfig,
)
from relay.config.problems import Loc, Report, did_you_mean, nearest
from relay.config.providers import PROVIDERS, ProviderConfig
from relay.config.rules import CaseConfig, MatchConfig, NotConfig, RampConfig, RouteConfig
from relay.config.section import Section, example_of, keys_of, section_below

S = TypeVar("S", bound=Section, covariant=True)

RESERVED = frozenset({"smtpd", "cleanup", "qmgr", "bounce", "master", "relay", "none"})
"""Words that stand in log lines where a provider's name does."""

SMALLEST = 'providers: {postmark: {token: "${env:POSTMARK_TOKEN}"}}'


@dataclass(frozen=True, slots=True)
class Part(Generic[S]):
    """One section as far as it could be read. `bad` are its keys with a mistake, each already reported; a key that stands there
    misspelt is one of them."""

    loc: Loc
    value: S
    bad: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Draft:
    """All sections. A provider whose type is not known is None."""

    top: Part[Root]
    listen: tuple[Part[ListenConfig], ...]
    providers: Mapping[str, Part[ProviderConfig] | None]
    routes: tuple[Part[RouteConfig], ...]
    senders: Part[SendersConfig]
    queue: Part[QueueConfig]
    bounce: Part[BounceConfig]
    admin: Part[AdminConfig]
    log: Part[LogConfig]
    tests: tuple[Part[CaseConfig], ...]


def build(data: Any, report: Report) -> Draft:
    """The draft of a whole document."""
    if data is None:
        data = {}
    if not isinstance(data, dict):
        report.add((), f"the file holds {values.kind_of(data)}, not keys and values", SMALLEST)
        report.silenced.add(())
        data = {}
    for key in data.keys() - keys_of(Root).keys():
        _unknown_key(report, (key,), Root)
        report.silenced |= {(name,) for name in _meant(key, Root) if name not in data}  # it is there, if by another name
    top = {key: data[key] for key in ("version", "hostname") if key in data}
    return Draft(
        top=section(Root, {**top, "providers": {}}, (), report),
        listen=_listed(ListenConfig, data, "listen", report) or (Part(("listen",), ListenConfig(name="local", address="127.0.0.1:25")),),
        providers=_providers(data.get("providers"), report),
        routes=_listed(RouteConfig, data, "routes", report),
        senders=section(SendersConfig, data.get("senders"), ("senders",), report),
        queue=section(QueueConfig, data.get("queue"), ("queue",), report),
        bounce=section(BounceConfig, data.get("bounce"), ("bounce",), report),
        admin=section(AdminConfig, data.get("admin"), ("admin",), report),
        log=section(LogConfig, data.get("log"), ("log",), report),
        tests=_listed(CaseConfig, data, "tests", report),
    )


def section(model: type[S], raw: Any, loc: Loc, report: Report) -> Part[S]:
    """One section by its model; a key without anything below it is an empty section."""
    raw = {} if raw is None else raw
    known = keys_of(model)
    required = {key: example_of(field) for key, field in known.items() if field.is_required()}
    if not isinstance(raw, dict):
        report.add(
            loc, f"expected keys and values, not {values.kind_of(raw)}", guesses.shape(str(loc[0]), raw, Root) if len(loc) == 1 else ""
        )
        report.silenced.add(loc)
        return Part(loc, model.model_validate(required), frozenset(known))
    try:
        return Part(loc, model.model_validate(raw))
    except ValidationError as failure:
        errors = failure.errors(include_url=False)
    unknown = [str(error["loc"][0]) for error in errors if error["type"] == "extra_forbidden" and len(error["loc"]) == 1]
    misspelt = frozenset(name for key in unknown for name in _meant(key, model) if name not in raw)
    incomplete = {below for key in unknown if (below := guesses.section_of(key, model))}  # a condition that stands beside its match
    for error in errors:
        if error["type"] != "missing" or error["loc"][0] not in misspelt:
            _tell(error, model, loc, report)
    bad = misspelt | incomplete | {str(error["loc"][0]) for error in errors}
    good = {key: value for key, value in raw.items() if key not in bad}
    return Part(loc, model.model_validate({**required, **good}), bad)


def _listed(model: type[S], data: Mapping[str, Any], key: str, report: Report) -> tuple[Part[S], ...]:
    raw = data.get(key)
    if raw is None:
        return ()
    if not isinstance(raw, list):
        report.add((key,), f"expected a list, not {values.kind_of(raw)}", 'begin each item with "- "')
        report.silenced.add((key,))
        return ()
    if not raw and model is ListenConfig:
        report.add((key,), "the list is empty: nothing could hand in mail", "remove the key, or name a listener")
    return tuple(section(model, item, (key, index), report) for index, item in enumerate(raw))


def _providers(raw: Any, report: Report) -> dict[str, Part[ProviderConfig] | None]:
    loc: Loc = ("providers",)
    if raw is None or raw == {}:
        report.add(loc, "no provider is configured", SMALLEST)
        return {}
    if not isinstance(raw, dict):
        report.add(loc, f"expected names of providers with their keys, not {values.kind_of(raw)}", SMALLEST)
        return {}
    return {name: _provider(name, item, (*loc, name), report) for name, item in raw.items()}


def _provider(name: str, raw: Any, loc: Loc, report: Report) -> Part[ProviderConfig] | None:
    _provider_name(name, loc, report)
    raw = {} if raw is None else raw
    if not isinstance(raw, dict):
        report.add(loc, f"expected the keys of a provider, not {values.kind_of(raw)}")
        return None
    given = raw.get("type", name)
    where, at_key = ((*loc, "type"), False) if "type" in raw else (loc, True)
    known = ", ".join(PROVIDERS)
    if not isinstance(given, str):
        report.add(where, f"expected a provider type, not {values.kind_of(given)} (known: {known})")
        return None
    if "type" not in raw and given not in PROVIDERS and (near := nearest("type", raw)):
        report.add((*loc, near), "unknown key", 'did you mean "type"?', at_key=True)
        return None
    if given not in PROVIDERS:
        mend = did_you_mean(given, PROVIDERS) or ("" if "type" in raw else "a name that is no type needs a type: key below it")
        report.add(where, f'unknown provider type "{given}" (known: {known})', mend, at_key=at_key)
        return None
    return section(PROVIDERS[given], {**raw, "type": given}, loc, report)


def _provider_name(name: str, loc: Loc, report: Report) -> None:
    try:
        values.name(name)
    except PydanticCustomError as error:
        report.add(loc, _context(error.context)[0], _context(error.context)[1], at_key=True)
    if name in RESERVED:
        report.add(loc, f'"{name}" cannot be a provider\'s name: it has another meaning in log lines', at_key=True)


def _context(context: Mapping[str, Any] | None) -> tuple[str, str]:
    return str((context or {}).get("text", "")), str((context or {}).get("mend", ""))


def _tell(error: ErrorDetails, model: type[Section], base: Loc, report: Report) -> None:
    """One finding of pydantic in an admin's words."""
    loc = (*base, *(part for part in error["loc"] if part != "[key]"))
    kind = error["type"]
    if kind == "extra_forbidden":
        _unknown_key(report, loc, _model_at(model, error["loc"][:-1]))
    elif kind == "missing":
        report.add(loc, "missing", _example(_model_at(model, error["loc"][:-1]), str(loc[-1])), at_key=True)
    elif kind == "mistake":
        text, mend = _context(error.get("ctx"))
        if model is SendersConfig and error["loc"][0] == "users" and error["loc"][-1] == "[key]":
            loc = loc[:-1]  # the name is not told: it looks like a token
        if _model_at(model, error["loc"][:-1]) is RampConfig and (instead := _no_provider_of_ramp(str(loc[-1]))):
            report.add(loc, "unknown key", instead, at_key=True)
            return
        report.add(loc, text, mend, at_key=error["loc"][-1] == "[key]")
    else:  # tuple_type, dict_type, model_type and their kin: the shape is wrong
        wanted = "a list" if "tuple" in kind or "list" in kind else "keys and values"
        mend = ""
        if kind in {"model_type", "dict_type"}:
            mend = guesses.shape(str(loc[-1]), error["input"], _model_at(model, error["loc"][:-1]))
        report.add(loc, f"expected {wanted}, not {values.kind_of(error['input'])}", mend)


def _model_at(model: type[Section], loc: tuple[str | int, ...]) -> type[Section]:
    for part in loc:
        model = section_below(model, str(part)) or model
    return model


def _meant(key: str, model: type[Section]) -> tuple[str, ...]:
    """The key that an unknown one was probably meant to be, if there is a guess."""
    known = keys_of(model)
    if key in LATER[model] or key in NEVER.get(model, {}) or guesses.section_of(key, model) or (model is Root and key in PROVIDERS):
        return ()
    return (found,) if (found := guesses.meant(key, known)) else ()


def _no_provider_of_ramp(key: str) -> str:
    """What to do about a key that is taken for a provider's name, and has no share: it means another key, of the ramp or its route."""
    known = keys_of(RampConfig)
    if key in known:
        return ""
    if key in keys_of(RouteConfig):
        return "it belongs beside ramp:"
    if key in _SHARES:
        return "the providers themselves stand below ramp:, each with its share: ses: 100..0"
    return f'did you mean "{near}"?' if (near := guesses.meant(key, known)) else ""


_SHARES = frozenset({"shares", "share", "providers", "weights"})


def _unknown_key(report: Report, loc: Loc, model: type[Section]) -> None:
    key, known = str(loc[-1]), keys_of(model)
    if key in LATER[model]:
        report.add(loc, "unknown key: not built yet", at_key=True)
        return
    if why := NEVER.get(model, {}).get(key):
        report.add(loc, f"unknown key: {why}", "remove it", at_key=True)
        return
    mend = next((f'did you mean "{name}"?' for name in _meant(key, model)), f"known here: {', '.join(known)}")
    if model in (MatchConfig, NotConfig) and (instead := _condition_of(key)):
        mend = f"write {instead}"
    elif model is CaseConfig and key.lower() == "subject":
        mend = "write header: {Subject: …}"
    elif model is Root and key in keys_of(RouteConfig):
        mend = "it belongs to a route, below routes:"
    below = "providers" if model is Root and key in PROVIDERS else guesses.section_of(key, model)
    report.add(loc, "unknown key", f"it belongs below {below}:" if below else mend, at_key=True)


def _condition_of(key: str) -> str:
    """How a condition is written for which the word alone stands in a match; "" without a guess."""
    if key in routing.DIRECTIVES:
        return f"directive: {{{key}: …}}"
    if key.lower() == "subject":
        return "header: {Subject: …}"
    return "larger: 1MB, or smaller: 1MB" if key == "size" else ""


def _example(model: type[Section], key: str) -> str:
    example = example_of(keys_of(model)[key])
    quoted = f'"{example}"' if isinstance(example, str) and not example.replace(".", "").isalnum() else example
    return f"add {key}: {quoted}"
