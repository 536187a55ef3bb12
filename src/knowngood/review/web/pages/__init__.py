"""Pages for people, rendered on the server; each works with the keyboard."""

from __future__ import annotations

from knowngood.review.web.pages import data, lots, queue, recipes, shared, signing, threshold, together, units
from knowngood.review.web.pages.shared import trouble

ROUTERS = (
    *(signing.router, shared.router, queue.router, threshold.router),
    *(data.router, together.router, units.router, lots.router, recipes.router),
)

__all__ = ["ROUTERS", "trouble"]
