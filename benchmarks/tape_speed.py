"""How fast a look-alike set is drawn, and whether memory stays flat.

Run it as `python benchmarks/tape_speed.py [--images 33000] [--workers 2]`; the whole set takes about 0.9 GB on disk.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

from knowngood.files import write_json
from knowngood.lookalike.config import TapeConfig
from knowngood.lookalike.generate import generate

RESULT = Path(__file__).parent / "results" / "tape_speed.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=33_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--family", default="sod")
    parser.add_argument("--folder", type=Path, help="where to draw; a temporary folder if not given")
    chosen = parser.parse_args()
    test = chosen.images // 11
    config = TapeConfig(train=chosen.images - test, test=test, family=chosen.family)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        load = os.getloadavg()[0]
        started = time.perf_counter()
        generate(Path(folder) / "set", config, workers=chosen.workers)
        seconds = time.perf_counter() - started
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    document = {
        "what": "a look-alike set with masks, written to disk",
        "family": chosen.family,
        "images": chosen.images,
        "workers": chosen.workers,
        "seconds": round(seconds, 1),
        "milliseconds an image and worker": round(1000 * seconds * chosen.workers / chosen.images, 2),
        "megabytes on disk": round(size / 1e6, 1),
        "peak megabytes of a worker": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        "load of the machine before": round(load, 2),
    }
    print(document)
    write_json(RESULT, document)


if __name__ == "__main__":
    main()
