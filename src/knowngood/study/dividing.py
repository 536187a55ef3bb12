"""One way from a configuration's shares to the splits of a set, so that every command tests on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from knowngood.data.records import BAD, GOOD, Records
from knowngood.data.splits import Ids, split


class Shares(Protocol):
    """What the configurations of training, comparing and classifying have in common."""

    @property
    def test(self) -> float: ...
    @property
    def val(self) -> float: ...
    @property
    def calibration(self) -> float: ...
    @property
    def resplit(self) -> bool: ...


def divided_as(
    records: Records, groups: Ids, config: Shares, seed: int, *, classes: Sequence[int] = (GOOD, BAD)
) -> Records:
    """Divides a set as a configuration says; the same shares and seed give the same splits to every command.

    Args:
        records: (N rows).
        groups: int64 (N,) what is never divided, from `groups_of`.
        config: Shares, and whether splits that the source gave are kept.
        seed: Of the division.
        classes: That have to be in every split.

    Raises:
        DataError: Too few images or lots of a class.
    """
    return split(
        records,
        test=config.test,
        val=config.val,
        calibration=config.calibration,
        seed=seed,
        keep_given=not config.resplit,
        groups=groups,
        classes=classes,
    )
