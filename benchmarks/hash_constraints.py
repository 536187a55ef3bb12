"""Writes constraints-hashed.txt: the versions of constraints.txt, each with the SHA-256 of what pip would take here.

    python benchmarks/hash_constraints.py
    pip install --require-hashes --no-deps -r constraints-hashed.txt   # in CI; then: pip install --no-deps -e .

Hashes are of this platform and this Python (the first line of the file names them), and come from the index or, for
files that lie on this machine, from their bytes; `pip` alone is used, nothing is installed. A package that this machine
has in a build of its own (torch for processors) gets the hash of the index's file as well, so that both are taken.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
VERSIONS, HASHED = ROOT / "constraints.txt", ROOT / "constraints-hashed.txt"
BUILDING = (
    "hatchling",
    "editables",
    "setuptools",
    "wheel",
)  # what `pip install -e .` and packages without a wheel need


def report(requirements: list[str], *options: str, **environment: str) -> list[dict[str, Any]]:
    """Returns what pip would install for requirements, with the hash of each file."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
    command += ["--report", "-", *options, *requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | environment)
    return list(json.loads(done.stdout)["install"])


def main() -> None:
    """Writes the file."""
    hashes: dict[str, set[str]] = {}
    local = []
    for one in report([], "-r", str(VERSIONS)) + report(list(BUILDING)):
        pin = f"{one['metadata']['name']}=={one['metadata']['version'].partition('+')[0]}"
        hashes.setdefault(pin, set()).add(one["download_info"]["archive_info"]["hashes"]["sha256"])
        if one["download_info"]["url"].startswith("file:"):
            local.append(pin)
    index = ("--isolated", "--index-url", "https://pypi.org/simple")
    for one in report(local, *index) if local else []:
        pin = f"{one['metadata']['name']}=={one['metadata']['version']}"
        hashes[pin].add(one["download_info"]["archive_info"]["hashes"]["sha256"])
    lines = [
        f"# Made by benchmarks/{Path(__file__).name} for Python {platform.python_version()} on {platform.platform()}."
    ]
    for pin in sorted(hashes, key=str.lower):
        lines.append(" \\\n    ".join([pin, *(f"--hash=sha256:{one}" for one in sorted(hashes[pin]))]))
    HASHED.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(hashes)} packages, {len(local)} of them lie on this machine: {HASHED}")


if __name__ == "__main__":
    main()
