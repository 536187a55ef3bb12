"""One self-contained HTML page out of sections; a later floor adds its own and changes nothing here."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from knowngood import wording
from knowngood.metrics.thresholds import proportion_interval


@dataclass(frozen=True)
class Section:
    """One part of the page.

    Attributes:
        key: Anchor in the page: letters and dashes.
        title: Heading.
        body: HTML that is safe to show as it is, see `render`.
        lead: One sentence under the heading: what to see here.
    """

    key: str
    title: str
    body: Markup
    lead: str = ""


@dataclass(frozen=True)
class Picture:
    """A photograph with what is known of it, as the `pictures` macro of the templates shows it.

    Attributes:
        uri: `data:` URI, or None for a placeholder.
        name: Image name.
        score: Defect score, worded; empty when there is none.
        tag: Defect or class.
        bad: Whether the unit is bad.
        trouble: Why there is no picture.
    """

    uri: str | None
    name: str
    score: str
    tag: str
    bad: bool
    trouble: str = ""


def exact_rate(part: int, whole: int) -> str:
    """Returns a rate with its exact 95 % interval: 1.2 % (0.4 to 2.9 %)."""
    if whole == 0:
        return wording.NONE
    return f"{wording.percent(part / whole)} ({wording.percent_range(proportion_interval(part, whole))})"


def unbroken(text: str) -> str:
    """Returns text in which no line ends between a number and its per cent sign."""
    return re.sub(r"(?<=\d) %", "\u00a0%", text)


@cache
def environment() -> Environment:
    """Returns the templates; every value is escaped, because file names may hold HTML."""
    env = Environment(
        loader=PackageLoader("knowngood.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("percent", "decimal", "score", "percent_range", "decimal_range", "duration"):
        env.filters[name] = getattr(wording, name)
    env.filters["exact_rate"] = exact_rate
    env.filters["unbroken"] = unbroken
    env.globals["counted"] = wording.counted
    return env


def render(template: str, **values: Any) -> Markup:
    """Returns a template under `templates/` filled in, safe to put into a section."""
    return Markup(environment().get_template(template).render(**values))


def page(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Returns the whole HTML document; nothing in it is fetched from anywhere.

    Args:
        title: Heading of the page.
        subtitle: Line under it.
        sections: In the order in which they are shown.
    """
    script = _source("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return str(
        render(
            "page.html",
            title=title,
            subtitle=subtitle,
            sections=sections,
            style=Markup(_source("style.css")),
            script=Markup(script),
            script_hash=digest,  # the page's policy lets only this script run, whatever a file name holds
        )
    )


@dataclass(frozen=True)
class Origin:
    """Where the figures of a page come from.

    Attributes:
        command: What to type to run it again.
        seed: Of the run.
        data: Its source, root and licence.
        versions: Package to version.
        config: The resolved configuration.
        seconds: What took how long.
    """

    command: str
    seed: int
    data: dict[str, Any]
    versions: dict[str, str]
    config: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)


def origin_section(origin: Origin) -> Section:
    """Makes a section of command, seed, times, versions, configuration, terms of the data."""
    body = render(
        "sections/provenance.html",
        run=origin,
        seconds=origin.seconds,
        config=json.dumps(origin.config, indent=2, ensure_ascii=False, default=str),
    )
    return Section("provenance", "What was run, and how to run it again", body)


def _source(name: str) -> str:
    loader = environment().loader
    assert loader is not None
    return loader.get_source(environment(), name)[0].strip()
