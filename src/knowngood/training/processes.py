"""Training in several processes of this machine: started here, so that our own modules come before Lightning's."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import knowngood.models.torchvision_ops  # noqa: F401  (a new process imports this module first, see there)

import numpy as np
import numpy.typing as npt
import torch
from torch.multiprocessing import get_context
from torch.multiprocessing.spawn import start_processes

from knowngood.data.processes import end_with_parent
from knowngood.errors import KnownGoodError
from knowngood.progress import Reporter, Silent, reporter, reporting_to

_LOOK = 0.2  # seconds between two looks at what the processes report


def in_processes(function: Callable[..., object], count: int, *given: Any) -> None:
    """Calls function(*given) in `count` new processes that know of each other, and waits for all.

    Lightning finds their ranks in the environment and starts none of its own; give it the strategy "ddp" and `count`
    devices. The cores are shared out among them. Only what the first of them writes to files comes back; its progress
    goes to the reporter in force here.

    Args:
        function: Defined at the top of a module.
        count: Of processes.
        *given: Arguments that can be pickled.

    Raises:
        KnownGoodError: What one of them raised on purpose; the others are ended.
        ProcessRaisedException: One of them failed otherwise; the others are ended.
    """
    queue = get_context("spawn").SimpleQueue()
    receiving = Receiving(reporter())
    context = start_processes(  # type: ignore[no-untyped-call]
        _one, (count, _free_port(), queue, function, given), count, join=False, start_method="spawn"
    )
    try:
        while not context.join(timeout=_LOOK):
            receiving.hear(queue)
    except KeyboardInterrupt:  # Ctrl-C may have reached this process alone, SIGTERM has
        for process in context.processes:
            process.kill()  # Lightning's handlers of gentler signals wait for the others, which wait for it
        raise
    finally:
        receiving.hear(queue)
        if receiving.error is not None:  # what the user should know, not which process ended first
            raise receiving.error from None


def _one(rank: int, count: int, port: int, queue: Any, function: Callable[..., object], given: tuple[Any, ...]) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "NODE_RANK": "0",
        "LOCAL_RANK": str(rank),
    }
    end_with_parent()
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    try:
        with reporting_to(Sending(queue) if rank == 0 else Silent()):
            function(*given)
    except KnownGoodError as error:
        queue.put(error)
        raise


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


@dataclass(frozen=True)
class Mapped:
    """Photographs in a file, for another process to map instead of being sent a copy.

    Attributes:
        path: Of the file, uint8 and nothing else.
        shape: (N, C, H, W).
    """

    path: str
    shape: tuple[int, ...]

    def opened(self) -> npt.NDArray[np.uint8]:
        """Returns the photographs, mapped."""
        return np.memmap(self.path, np.uint8, "r", shape=self.shape)


def sent(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | Mapped:
    """Returns what stands for photographs in another process: their file, where they are the whole of one."""
    name = getattr(pixels, "filename", None)
    if name is None or pixels.nbytes != Path(name).stat().st_size:
        return pixels
    return Mapped(str(name), pixels.shape)


class Sending:
    """Reporter of another process: sends its progress through a queue."""

    def __init__(self, queue: Any) -> None:
        self.queue, self.last = queue, 0

    def start(self, title: str, total: int | None, done: int = 0) -> int:
        self.last += 1
        self.queue.put(("start", self.last, title, total, done))
        return self.last

    def advance(self, task: int, steps: int = 1, note: str = "") -> None:
        self.queue.put(("advance", task, steps, note))

    def finish(self, task: int) -> None:
        self.queue.put(("finish", task))

    def say(self, message: str) -> None:
        self.queue.put(("say", message))


@dataclass
class Receiving:
    """Passes on what another process reports, and keeps the first error of any."""

    to: Reporter
    tasks: dict[int, int] = field(default_factory=dict)  # theirs to ours
    error: KnownGoodError | None = None

    def hear(self, queue: Any) -> None:
        """Takes all that waits in the queue."""
        while not queue.empty():
            match queue.get():
                case KnownGoodError() as error:
                    self.error = self.error or error
                case "start", task, *what:
                    self.tasks[task] = self.to.start(*what)
                case "advance", task, steps, note:
                    self.to.advance(self.tasks[task], steps, note)
                case "finish", task:
                    self.to.finish(self.tasks.pop(task))
                case "say", message:
                    self.to.say(message)


def silence_logs() -> None:
    """Leaves of Lightning's messages, in this process, the errors only."""
    for name in (
        "lightning.pytorch",
        "lightning.fabric",
        "lightning.pytorch.utilities.rank_zero",
        "lightning.fabric.utilities.rank_zero",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
