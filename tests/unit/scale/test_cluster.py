"""Functions of pieces on a cluster of this machine: in order, errors as words, a killed worker, other versions."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
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


def ours() -> set[int]:
    """Returns the numbers of the processes that this one has started, and that those have."""
    parents = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            parents[int(place.parent.name)] = int(place.read_text().rpartition(")")[2].split()[1])
    found = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def listening() -> dict[str, str]:
    """Returns the addresses, in hex, at which those processes take connections: socket to address."""
    sockets = set()
    for process in ours():
        with contextlib.suppress(OSError):
            for handle in Path(f"/proc/{process}/fd").iterdir():
                with contextlib.suppress(OSError):
                    sockets.add(os.readlink(handle))
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                found[words[9]] = words[1].partition(":")[0]
    return found


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="no Linux")
def test_a_cluster_of_ours_listens_on_this_machine_alone(two_workers: Any) -> None:
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    found = listening()
    assert len(found) >= 3  # the head, the machine's own process, the workers
    assert set(found.values()) <= loopback


def test_nobody_without_its_token_may_use_it(two_workers: Any, tmp_path: Path) -> None:
    if os.environ.get("RAY_AUTH_TOKEN") is None:
        pytest.skip("another token is set")
    address = two_workers.get_runtime_context().gcs_address
    code = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False); print('in')"
    secret = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    others = {name: value for name, value in os.environ.items() if name not in secret} | {"HOME": str(tmp_path)}
    for more in ({}, {"RAY_AUTH_TOKEN": "0" * 64}):
        done = subprocess.run(
            [sys.executable, "-c", code, address], env=others | more, capture_output=True, text=True, check=False
        )
        assert done.returncode != 0
        assert "in" not in done.stdout.split()


def test_what_a_cluster_needs_is_taken_back() -> None:
    code = (
        "import os; from knowngood.scale.connecting import _alone\n"
        "kept = dict(os.environ)\n"
        "with _alone(): assert len(os.environ['RAY_AUTH_TOKEN']) == 64\n"
        "assert dict(os.environ) == kept"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
