"""Work in several processes of this machine: chunks of bounded number, in whatever order they are done."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

C = TypeVar("C")
D = TypeVar("D")


def by_processes(work: Callable[[C], D], chunks: Iterable[C], workers: int) -> Iterator[tuple[C, D]]:
    """Yields each chunk with what was made of it, as soon as it is; never more than a few are under way.

    Args:
        work: A function that another process can import, or a `functools.partial` of one.
        chunks: What it is given, one at a time.
        workers: Processes; 1 works in this one.
    """
    waiting = iter(chunks)
    if workers == 1:
        for chunk in waiting:
            yield chunk, work(chunk)
        return
    # spawn: forking a process with threads of numpy, OpenCV or a web server is not safe. The standard library's pool
    # and not joblib's, whose workers stay for minutes after the last chunk and are shared with whoever uses joblib
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin) as pool:
        running: dict[Future[D], C] = {}
        try:
            while True:
                for chunk in islice(waiting, 2 * workers - len(running)):
                    running[pool.submit(work, chunk)] = chunk
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def write_png(path: Path, pixels: npt.NDArray[np.uint8], compression: int) -> None:
    """Writes grey (H, W) or RGB (H, W, 3) uint8; a file that could not be written whole is taken away again.

    Args:
        path: Of the file; its folder is made.
        pixels: 0..255.
        compression: Of zlib, 0..9.

    Raises:
        OSError: The operating system refuses.
    """
    planes = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".png", planes, [cv2.IMWRITE_PNG_COMPRESSION, compression])[1].tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.write_bytes(data)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _begin() -> None:
    """Leaves Ctrl-C and SIGTERM, which may reach every process, to the first one, and ends when that one does."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()


def end_with_parent() -> None:
    """Has this process end when the one that started it does: a killed one would leave it waiting for ever."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        assert parent is not None
        parent.join()
        os._exit(1)

    if parent is not None:
        threading.Thread(target=wait, daemon=True).start()
