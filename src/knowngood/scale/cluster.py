"""A block of work whose pieces run on a cluster."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from knowngood.errors import ConfigError, KnownGoodError
from knowngood.scale.config import ClusterConfig
from knowngood.scale.connecting import connected, look
from knowngood.scale.mapping import mapping_by
from knowngood.scale.parts import TRIES
from knowngood.scale.spreading import room
from knowngood.scale.workers import PartStatus, same_versions, versions

P = TypeVar("P")
R = TypeVar("R")
_AHEAD = 2  # pieces a worker that are sent before they are needed


@contextlib.contextmanager
def at_cluster(config: ClusterConfig) -> Iterator[None]:
    """Connects to a cluster for the block, and has it run what is `mapped` there; nothing where the engine is local.

    Raises:
        ConfigError: No cluster answers, or it has no room for a worker.
        MissingExtraError: Ray is not installed.
    """
    if config.engine == "local":
        yield
        return
    look(config.address)
    with connected(config.address, store=None) as ray, mapping_by(_Cluster(ray, config.cores)):
        yield


class _Cluster:
    """A mapper: as many pieces at once as there is room for workers.

    Args:
        ray: Connected.
        cores: A worker.
    """

    def __init__(self, ray: Any, cores: int) -> None:
        self._ray, self._cores = ray, cores
        self._room = room(ray, cores)
        # A worker that is lost is started again and its piece repeated, by Ray itself.
        self._run = ray.remote(_answered).options(num_cpus=cores, max_retries=TRIES - 1)

    def __call__(self, function: Callable[[P], R], pieces: Iterable[P]) -> Iterator[R]:
        sent = self._ray.put(function)
        running: deque[Any] = deque()
        for piece in pieces:
            running.append(self._run.remote(sent, piece, self._cores, versions()))
            if len(running) >= _AHEAD * self._room:
                yield self._taken(running.popleft())
        while running:
            yield self._taken(running.popleft())

    def _taken(self, reference: Any) -> Any:
        try:
            result, status = self._ray.get(reference)
        except (self._ray.exceptions.WorkerCrashedError, self._ray.exceptions.OutOfMemoryError) as error:
            raise ConfigError(
                f"A piece of the work has cost {TRIES} workers.",
                expected="enough memory for each worker",
                fix="More --worker-cores make fewer workers share a machine's memory; the same command tries again.",
            ) from error
        status.checked()
        return result


def _answered(function: Callable[[P], R], piece: P, cores: int, wanted: dict[str, str]) -> tuple[R | None, PartStatus]:
    """Returns a result, or in words why there is none."""
    from threadpoolctl import threadpool_limits

    try:
        same_versions(wanted)
        with threadpool_limits(cores):
            return function(piece), PartStatus(0)
    except KnownGoodError as error:
        return None, PartStatus.of(0, error)
