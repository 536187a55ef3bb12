"""What says how a cluster works is refused where no cluster was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from knowngood.errors import ConfigError
from knowngood.recipe.options import EngineConfig
from knowngood.scale.config import ClusterConfig


@pytest.mark.parametrize("kind", [ClusterConfig, EngineConfig])
@pytest.mark.parametrize(
    ("given", "flag"),
    [({"address": "auto"}, "--address"), ({"part_size": 4096}, "--part-size"), ({"worker_cores": 2}, "--worker-cores")],
)
def test_options_of_a_cluster(kind: type[ClusterConfig], given: dict[str, Any], flag: str) -> None:
    with pytest.raises(ConfigError, match=f"{flag} says how") as told:
        kind(**given)
    assert told.value.fix == f"Add --engine ray, or leave {flag} out."
    assert kind(engine="ray", **given)


def test_what_is_not_given() -> None:
    config = ClusterConfig(engine="ray")
    assert (config.part, config.cores) == (4096, 2)
    assert (ClusterConfig(engine="ray", part_size=7, worker_cores=1).part) == 7
