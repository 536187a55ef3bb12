"""How the command starts: nothing heavy for help, the public names, the module form, output that can be piped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "timm", "lightning", "polars", "sklearn", "numpy", "scipy", "cv2", "PIL", "matplotlib")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["train", "--help"], ["predict", "--help"], ["nonsense"]])
def test_nothing_heavy_is_imported_for_a_word_of_help(words: list[str]) -> None:
    code = (
        "import sys, json, contextlib\n"
        f"sys.argv = ['knowngood', *{words!r}]\n"
        "from knowngood.cli.main import run\n"
        "with contextlib.suppress(SystemExit): run()\n"
        f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stderr.splitlines()[-1]) == []


def test_the_module_is_the_command() -> None:
    import knowngood

    command = Path(sys.executable).parent / "knowngood"
    for words in ([str(command)], [sys.executable, "-m", "knowngood"]):
        done = subprocess.run([*words, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout == f"knowngood {knowngood.__version__}\n"


def test_a_reader_that_goes_away_is_no_failure_of_ours(parts: Path, trained_run: Path) -> None:
    command = f"{sys.executable} -m knowngood predict {trained_run} {parts} --json | head -c 20"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert len(done.stdout) == 20
    assert "Traceback" not in done.stderr
