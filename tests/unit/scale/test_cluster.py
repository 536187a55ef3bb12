"""Functions of pieces on a cluster of this machine: in order, errors as words, a killed worker, other versions."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from knowngood.errors import ConfigError, DataError
from knowngood.scale import cluster
from knowngood.scale.cluster import at_cluster
from knowngood.scale.config import ClusterConfig
from knowngood.scale.mapping import mapped, pieces

CONFIG = ClusterConfig(engine="ray", worker_cores=1)


@pytest.fixture
def there(two_workers: Any) -> Iterator[None]:
    """Workers cannot import this module: its functions travel whole."""
    two_workers.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with at_cluster(CONFIG):
        yield
    two_workers.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def scaled(by: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return rows @ by


def refusing(number: int) -> int:
    if number == 3:
        raise DataError("Three is not liked.", fix="four")
    return number


def whose(number: int) -> int:
    return os.getpid()


def fatal_once(mark: Path, number: int) -> int:
    if number == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_pieces_are_here_without_a_cluster() -> None:
    with at_cluster(ClusterConfig()):
        assert set(mapped(whose, range(3))) == {os.getpid()}
    assert [list(some) for some in pieces(range(7), 3)] == [[0, 1, 2], [3, 4, 5], [6]]


def test_results_come_in_order_from_elsewhere(there: None) -> None:
    random = np.random.default_rng(0)
    rows, by = random.random((1000, 64)), random.random((64, 8))
    blocks = list(pieces(rows, 37))
    made = list(mapped(partial(scaled, by), iter(blocks)))
    assert [one.tobytes() for one in made] == [scaled(by, block).tobytes() for block in blocks]
    assert os.getpid() not in set(mapped(whose, range(4)))


def test_an_error_is_the_same_error_again(there: None) -> None:
    with pytest.raises(DataError, match="Three is not liked") as told:
        list(mapped(refusing, range(10)))
    assert told.value.fix == "four"


def test_a_killed_worker_costs_only_time(there: None, tmp_path: Path) -> None:
    assert list(mapped(partial(fatal_once, tmp_path / "mark"), range(6))) == list(range(6))
    assert (tmp_path / "mark").exists()


def test_other_versions_are_refused(there: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "versions", lambda: {"knowngood": "9.9"})  # what this machine has
    with pytest.raises(ConfigError, match=r"has knowngood .*, this machine 9\.9"):
        list(mapped(whose, range(2)))


@pytest.mark.usefixtures("two_workers")
def test_no_machine_has_room() -> None:
    greedy = ClusterConfig(engine="ray", worker_cores=64)
    with pytest.raises(ConfigError, match="--worker-cores 64"), at_cluster(greedy):
        pass
