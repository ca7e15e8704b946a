"""The configured providers, and what a look at each of them found, as lines for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from relay.cli import show
from relay.cli.show import Paint, size
from relay.log import clean

Json = Mapping[str, Any]

_TLS = {
    "https": "TLS, certificate checked",
    "starttls": "STARTTLS required, certificate checked",
    "implicit": "TLS from the start, certificate checked",
    "none": "no TLS",
}
_OK = {True: "ok", False: "FAILED", None: "?"}


def listing(providers: Sequence[Json], now: float, paint: Paint) -> Iterator[str]:
    """`relay provider list`: a line for each provider, and below it the ways it is spoken to."""
    heads = ["provider", "type", "mode"]
    widths = [max(map(len, [head, *(item[key] for item in providers)])) for head, key in zip(heads, ("name", "type", "mode"), strict=True)]
    head = "  ".join(f"{head:<{width}}" for head, width in zip(heads, widths, strict=True))
    yield f"{head}  {'state':<9}  waiting  routes"
    for item in providers:
        names = "  ".join(f"{item[key]:<{width}}" for key, width in zip(("name", "type", "mode"), widths, strict=True))
        waiting = "-" if item["waiting"] is None else item["waiting"]
        yield f"{names}  {paint(item['state'] or '-', 9)}  {waiting:>7}  {', '.join(item['routes']) or 'none'}"
        yield from (f"    {line}" for line in _told(item, now))
        yield from (f"    {_way(way)}" for way in item["ways"])
        if item["no_smtp"]:
            yield f"    no SMTP: {clean(item['no_smtp'])}"
        if item["no_delivery"] and item["mode"] != "capture":
            yield f"    {clean(item['no_delivery'])}"


def _told(item: Json, now: float) -> Iterator[str]:
    """What the daemon tells: why it is not up, its budgets, its share of a ramp, its shadows."""
    if item["state"] is None:
        return
    if item["state"] == "new":
        yield item["reason"]
        return
    yield from show.standing(item, now)
    yield from show.usage(item["usage"], now)
    yield from (line.strip() for line in (*show.ramps(item["ramps"]), *show.shadows(item["shadows"])))


def _way(way: Json) -> str:
    """One way: where it leads, how it is protected, how much goes at once."""
    if way["by"] == "capture":
        return f"keeps mail in {clean(way['urls'][0])}"
    what = "request" if way["by"] == "api" else "connection"
    facts = [f"{way['concurrency']} {what}{'' if way['concurrency'] == 1 else 's'} at once"]
    if way["size"]:
        facts.append(f"at most {size(way['size'])}")
    if way["batch"]["max"] > 1:
        facts.append(f"batches of up to {way['batch']['max']} messages")
    return f"by {way['by'].upper()} {' and '.join(map(clean, way['urls']))} ({_TLS[way['tls']]}): {', '.join(facts)}"


def checks(found: Sequence[Json]) -> Iterator[str]:
    """`relay provider test`: each check below its provider; a dash is what the configuration leaves nothing to look at for."""
    width = max((len(check["check"]) for check in found), default=0)
    name = None
    for check in found:
        if check["provider"] != name:
            name = check["provider"]
            yield name
        ok = _OK[check["ok"]] if check["configured"] else "-"
        yield f"  {ok:<6}  {check['check']:<{width}}  {clean(check['text'])}"
        if check["mend"]:
            yield f"          to mend it: {clean(check['mend'])}"
