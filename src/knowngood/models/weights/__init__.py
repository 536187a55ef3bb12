"""Pretrained weights, looked for in one order: what the user names, the cache, an installed package, the hub."""

from __future__ import annotations

from knowngood.models.weights.files import Weights
from knowngood.models.weights.search import available, fetch, find

__all__ = ["Weights", "available", "fetch", "find"]
