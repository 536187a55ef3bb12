"""Work by several processes: every chunk once, a PNG whole or not at all, nobody left behind after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from knowngood.data import processes
from knowngood.data.processes import by_processes, write_png


@pytest.mark.parametrize("workers", [1, 2])
def test_every_chunk_comes_once(workers):
    done = list(by_processes(abs, range(-9, 0), workers))
    assert sorted(done) == [(chunk, -chunk) for chunk in range(-9, 0)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
def test_a_killed_parent_leaves_no_worker_behind():
    program = "\n".join(
        [
            "import os, time",
            "from knowngood.data.processes import by_processes",
            "if __name__ == '__main__':",
            "    for _ in by_processes(time.sleep, [0.1, 600], 2):",
            "        print('begun', flush=True)",
        ]
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "begun\n"
        children = [int(pid) for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()]
        workers = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert workers
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    while any(alive(pid) for pid in workers):
        time.sleep(0.05)


def test_a_picture_is_whole_or_not_there(tmp_path, monkeypatch):
    colour = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    write_png(tmp_path / "deep" / "a.png", colour, 2)
    assert np.array_equal(cv2.imread(str(tmp_path / "deep" / "a.png"))[..., ::-1], colour)
    real = Path.write_bytes

    def cut(self: Path, data: bytes) -> int:
        real(self, data[:20])
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(processes.Path, "write_bytes", cut)
    with pytest.raises(OSError, match="No space"):
        write_png(tmp_path / "b.png", colour, 2)
    assert not (tmp_path / "b.png").exists()
