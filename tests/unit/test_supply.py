"""What is installed: the file with hashes names the versions of the file without, and each of them with a hash."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)", re.MULTILINE)


def pins(path: Path) -> dict[str, str]:
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in PIN.findall(path.read_text())}


@pytest.mark.skipif(not (ROOT / "constraints.txt").is_file(), reason="knowngood is installed, not cloned")
def test_versions_with_hashes_are_those_without() -> None:
    plain, hashed = pins(ROOT / "constraints.txt"), pins(ROOT / "constraints-hashed.txt")
    wrong = {name: (version, hashed.get(name)) for name, version in plain.items() if hashed.get(name) != version}
    assert not wrong, "python benchmarks/hash_constraints.py makes the file again"
    entries = re.split(r"\n(?=\S)", (ROOT / "constraints-hashed.txt").read_text().strip())[1:]
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in entries)


@pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="knowngood is installed, not cloned")
def test_no_fsspec_that_runs_code_is_allowed() -> None:
    assert '"fsspec>=2026.6"' in (ROOT / "pyproject.toml").read_text()
