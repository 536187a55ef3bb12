"""Names propose what counts the photographs of a part, with the option that would group by it."""

from __future__ import annotations

import re

import pytest

from knowngood.data.unit_names import proposals, rows_by

EXPOSURES = [f"{'good' if n % 3 else 'chip'}/exp{e}_num_{1000 + n}.png" for n in range(20) for e in (1, 2, 3)]
COPIES = [f"good/unit {n}.bmp" for n in range(20)] + [f"good/unit {n} (2).bmp" for n in range(8)]


@pytest.mark.parametrize(
    ("names", "key", "a_view"),
    [
        ([f"good/part_{n:04}_cam{c}.png" for n in range(20) for c in (1, 2)], r"part_\d+", True),
        (EXPOSURES, r"num_\d+", True),
        ([f"good/A{n}-{k}.jpg" for n in range(20) for k in (1, 2)], r"A\d+", False),
        (COPIES, r"unit \d+", False),
        ([f"good/A{n}.jpg" for n in range(20)] + [f"good/A{n}-2.jpg" for n in range(8)], r"A\d+", False),
        ([f"good/p{n}/{view}.png" for n in range(20) for view in ("top", "bottom")], r"p\d+", True),
        ([f"good/p{n}_{view}.png" for n in range(20) for view in ("top", "bottom")], r"p\d+", True),
        ([f"good/wafer{n}_die{d}.png" for n in range(20) for d in range(5)], r"wafer\d+", False),
    ],
)
def test_what_names_propose(names: list[str], key: str, a_view: bool) -> None:
    wanted: dict[str, list[str]] = {}
    for name in names:
        found = re.search(key, name)
        assert found is not None
        wanted.setdefault(found[0], []).append(name)
    wanted_groups = sorted(sorted(members) for members in wanted.values() if len(members) > 1)
    fitting = [
        one
        for one in proposals(names)
        if sorted(sorted(names[row] for row in rows) for rows in rows_by(one.groups).values()) == wanted_groups
    ]
    assert fitting
    assert fitting[0].names_a_view == a_view
    if fitting[0].regex:
        told = {name: re.search(fitting[0].regex, name) for name in names}
        assert len({match[1] for match in told.values() if match is not None}) == len(wanted)


@pytest.mark.parametrize(
    "names",
    [
        [f"good/IMG_{n:04}.png" for n in range(200)],
        [f"good/{n}.png" for n in range(20)] + [f"chip/{n}.png" for n in range(10)],
        ["a.png"],
        [],
        [f"{('free', 'crack')[n % 2]}_exp{n % 6}_num_{100 + 7 * n}.jpg" for n in range(120)],
    ],
)
def test_a_running_number_alone_proposes_nothing(names: list[str]) -> None:
    assert proposals(names) == []
