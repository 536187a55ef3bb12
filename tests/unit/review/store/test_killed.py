"""kill -9 in the middle of writing: every verdict that was acknowledged is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from knowngood.review.store.record import Record

KILLS = int(os.environ.get("KNOWNGOOD_KILLS", "3"))
WRITER = """
import sys
from knowngood.review.store.record import Record
from knowngood.review.store.verdicts import NewVerdict

record = Record(sys.argv[1])
print("ready", flush=True)
for number in range(int(sys.argv[2]), 100_000):
    said = record.verdicts.add(NewVerdict(1, "good" if number % 2 else "bad", "ann", key=f"k{number}"))
    print(said, flush=True)  # the acknowledgement
"""


def test_every_acknowledged_verdict_survives(url: str, record: Record, file_some: Callable[..., list[int]]) -> None:
    assert file_some(0.5) == [1]
    acknowledged: list[int] = []
    for kill in range(KILLS):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, url, str(10_000 * kill)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(0.2 + 0.1 * (kill % 5))
        writer.send_signal(signal.SIGKILL)
        told = writer.stdout.read().splitlines(keepends=True)
        writer.wait()
        acknowledged += [int(line) for line in told if line.endswith("\n")]
    assert len(acknowledged) > KILLS
    again = Record(url)
    kept = again.verdicts.everything()
    assert set(acknowledged) <= {row["id"] for row in kept}
    assert {row["verdict"] for row in kept} <= {"good", "bad"}  # whole rows only
    again.close()
