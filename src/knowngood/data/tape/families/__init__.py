"""Package families: each file here knows one outline, its leads and its pocket; one line registers another."""

from __future__ import annotations

from typing import Protocol

from knowngood.data.tape.scene import Box, Scene
from knowngood.data.tape.streams import Streams
from knowngood.registry import Registry


class Family(Protocol):
    """One package family. Implementations are plain classes without arguments."""

    summary: str  # one line for the docs
    width: int  # of its pictures, pixels
    height: int
    softness: tuple[float, float]  # sigma of what neighbours share of the noise, across and down, pixels
    scan: float  # how strongly the lines of the camera's scan show, 1 = as on the diodes

    def product(self, scene: Scene) -> str:
        """Names the product that the scene's lot is."""
        ...

    def draw_pocket(self, scene: Scene, streams: Streams) -> None:
        """Draws tape, pocket and floor, without the part."""
        ...

    def draw_part(self, scene: Scene, streams: Streams) -> None:
        """Draws body, marking and leads, and fills the scene's geometry and layers."""
        ...

    def placed(self, box: Box, scene: Scene) -> Box:
        """Turns a box of an average SOT23 picture into a box of this scene's picture."""
        ...


FAMILIES: Registry[type[Family]] = Registry(
    "package family",
    "knowngood.tape_families",
    {
        "sod": "knowngood.data.tape.families.sod:Sod",
        "sot23": "knowngood.data.tape.families.sot23:Sot23",
    },
)
