"""The cascade as a runtime: the engine gives it batches as it gives them to one network."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from knowngood.recipe.cascade.rule import ACCEPTED, PASSED, Margins, Rule, Zones
from knowngood.recipe.runtimes import Outputs, Pixels, Runtime, Values

BATCH = 32  # photographs that go to the large network at once
WAITING = 24  # batches that may wait for it to be filled: the bound on memory


class CascadeRuntime:
    """Asks the student first, and the large network about what the student passes on.

    Photographs are prepared at the large network's size, once; the student sees them smaller. What is passed on is
    collected over several batches, so that the large network computes full ones; results keep their order.

    Accepted photographs have an empty map; the others have that of the large network.

    Args:
        student: Open.
        large: Open.
        rule: Who decides what.
        size: Height and width that the student sees.
        watch: Is shown the zones of each batch, in order.
    """

    name = "cascade"

    def __init__(
        self,
        student: Runtime,
        large: Runtime,
        rule: Rule,
        size: tuple[int, int],
        watch: Callable[[Zones], None] | None = None,
    ) -> None:
        self.student, self.large, self.rule, self.size, self.watch = student, large, rule, size, watch
        self.maps = large.maps
        self._sides: tuple[int, ...] | None = None  # of a map; known from the first one

    @property
    def busy(self) -> float:
        """Seconds in which either network was computing so far."""
        return self.student.busy + self.large.busy

    def run(self, pixels: Pixels, *, maps: bool = False) -> Outputs:
        """Returns margins of the whole, and maps if asked for."""
        (made,) = self.stream([pixels], maps=maps)
        return made

    def stream(self, batches: Iterable[Pixels], *, maps: bool = False) -> Iterator[Outputs]:
        """Yields what comes of each batch, in order; at most `WAITING` and what the student takes are held."""
        taken: deque[Pixels] = deque()

        def small() -> Iterator[Pixels]:
            for pixels in batches:
                taken.append(pixels)
                yield smaller(pixels, self.size)

        waiting: deque[_Waiting] = deque()
        for told in self.student.stream(small()):
            zones = self.rule.zones(told.margins)
            wanted = zones != ACCEPTED if maps else zones == PASSED
            if self.watch is not None:
                self.watch(zones)
            waiting.append(_Waiting(told.margins, zones, wanted, taken.popleft()[wanted]))
            if sum(len(one.pixels) for one in waiting) >= BATCH or len(waiting) >= WAITING:
                yield from self._finished(waiting, maps)
        yield from self._finished(waiting, maps)

    def _finished(self, waiting: deque[_Waiting], maps: bool) -> Iterator[Outputs]:
        """Asks the large network about everything that waits, and yields the batches."""
        if not waiting:
            return
        going = [one.pixels for one in waiting if len(one.pixels)]
        asked = self.large.run(np.concatenate(going), maps=maps) if going else None
        start = 0
        while waiting:
            one = waiting.popleft()
            stop = start + len(one.pixels)
            margins, heat = np.empty(0, np.float32), None
            if asked is not None:
                margins, heat = asked.margins[start:stop], None if asked.maps is None else asked.maps[start:stop]
            start = stop
            passed = margins[one.zones[one.wanted] == PASSED]
            whole = self.rule.whole(one.margins, one.zones, passed)
            yield Outputs(whole, self._placed(one, heat) if maps else None)

    def _placed(self, one: _Waiting, heat: Values | None) -> Values:
        """Returns maps (B, h, w): the large network's, and nothing where it was not asked."""
        if self._sides is None:
            shape = (1, *one.pixels.shape[1:])
            some = heat if heat is not None else self.large.run(np.zeros(shape, np.uint8), maps=True).maps
            assert some is not None
            self._sides = some.shape[1:]
        whole = np.zeros((len(one.wanted), *self._sides), np.float32)
        if heat is not None:
            whole[one.wanted] = heat
        return whole


@dataclass(frozen=True)
class _Waiting:
    margins: Margins
    zones: Zones
    wanted: npt.NDArray[np.bool_]
    pixels: Pixels = field(repr=False)


def smaller(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Returns photographs (B, C, H, W) at another height and width, averaged over areas; (B, C, h, w) uint8."""
    height, width = size
    if pixels.shape[2:] == size:
        return pixels
    made = np.empty((*pixels.shape[:2], height, width), np.uint8)
    for one, into in zip(pixels, made, strict=True):
        for plane, to in zip(one, into, strict=True):
            cv2.resize(plane, (width, height), dst=to, interpolation=cv2.INTER_AREA)
    return made
