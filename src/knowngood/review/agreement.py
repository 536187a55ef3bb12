"""Do people agree with the truth, with the recipe and with each other? Attribute agreement as in AIAG's MSA."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from knowngood.decide.threshold import ACCEPT
from knowngood.review.store.schema import BAD, GOOD

# AIAG MSA, "acceptable"
EFFECTIVENESS, MISS, FALSE_ALARM = 0.90, 0.02, 0.05


@dataclass(frozen=True)
class Agreement:
    """Somebody's calls against a reference.

    Attributes:
        who: Made the calls.
        reference: "the labels", "the recipe" or a name.
        count: Images that both have called.
        effectiveness: Share of equal calls.
        kappa: Cohen's; None where it does not exist.
        miss_rate: Bad by the reference, called good; None without bads.
        false_alarm_rate: Good by the reference, called bad; None without goods.
    """

    who: str
    reference: str
    count: int
    effectiveness: float
    kappa: float | None
    miss_rate: float | None
    false_alarm_rate: float | None

    @property
    def acceptable(self) -> bool:
        """Whether AIAG's three limits are kept."""
        misses, alarms = self.miss_rate or 0.0, self.false_alarm_rate or 0.0
        return self.effectiveness >= EFFECTIVENESS and misses <= MISS and alarms <= FALSE_ALARM


def cohens_kappa(first: Sequence[bool], second: Sequence[bool]) -> float | None:
    """Returns how much two agree beyond chance; None where chance alone agrees always.

    Reference:
        Cohen 1960.
    """
    count = len(first)
    if not count:
        return None
    seen = sum(a == b for a, b in zip(first, second, strict=True)) / count
    a, b = sum(first) / count, sum(second) / count
    chance = a * b + (1 - a) * (1 - b)
    return None if chance == 1 else (seen - chance) / (1 - chance)


def against(who: str, reference: str, calls: Mapping[str, bool], truth: Mapping[str, bool]) -> Agreement | None:
    """Returns the agreement of calls (image to whether it is bad) with a reference; None without common images."""
    common = [name for name in calls if name in truth]
    if not common:
        return None
    said, true = [calls[name] for name in common], [truth[name] for name in common]
    bads, goods = sum(true), len(true) - sum(true)
    missed = sum(t and not s for s, t in zip(said, true, strict=True))
    alarms = sum(s and not t for s, t in zip(said, true, strict=True))
    return Agreement(
        who,
        reference,
        len(common),
        1 - (missed + alarms) / len(common),
        cohens_kappa(said, true),
        missed / bads if bads else None,
        alarms / goods if goods else None,
    )


def agreements(verdicts: Iterable[Mapping[str, Any]], labels: Mapping[str, int]) -> list[Agreement]:
    """Returns everybody against the labels, against the recipe, and against each other.

    Args:
        verdicts: Standing ones with who, verdict, sha256 and decision (the recipe's); the last of each person counts,
            good and bad only.
        labels: sha256 to 0 or 1 as the data set has it.
    """
    calls: dict[str, dict[str, bool]] = {}
    recipe: dict[str, bool] = {}
    for row in verdicts:
        if row["verdict"] in (GOOD, BAD):
            calls.setdefault(row["who"], {})[row["sha256"]] = row["verdict"] == BAD
            if row["decision"] is not None:
                recipe[row["sha256"]] = row["decision"] != ACCEPT
    truth = {name: bool(label) for name, label in labels.items()}
    found = []
    names = sorted(calls)
    for place, who in enumerate(names):
        found.append(against(who, "the labels", calls[who], truth))
        found.append(against(who, "the recipe", calls[who], recipe))
        found += [against(who, other, calls[who], calls[other]) for other in names[place + 1 :]]
    return [one for one in found if one is not None]
