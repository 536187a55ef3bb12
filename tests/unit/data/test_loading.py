"""Photographs that only another machine does not see are not lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from knowngood.data.loading import load
from knowngood.scale.mapping import mapping_by


def test_what_another_machine_does_not_see_is_read_here(parts: Path) -> None:
    def without_the_folder(function: Callable[[Any], Any], pieces: Any) -> Iterator[Any]:
        for piece in pieces:
            yield function([f"/nowhere{path}" for path in piece])

    with mapping_by(without_the_folder):
        found = load(parts)
    assert found.frame.equals(load(parts).frame)
    assert len(found.usable()) == 90
