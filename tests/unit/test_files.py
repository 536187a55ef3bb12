"""Files and folders that are whole or not there: kills at every step, leftovers, places that cannot be written."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from knowngood.errors import ConfigError, StorageError
from knowngood.files import check_writable, clean, recover, scratch_folder, storage_errors, whole_file, whole_folder

# Calls of the operating system that change something, while one folder replaces another; the process is killed
# before or after the one of that number.
REPLACING = """
import os, shutil, signal, sys
from pathlib import Path
from knowngood.files import whole_folder
step, after, count = int(sys.argv[2]), sys.argv[3] == "after", 0
def watched(call):
    def run(*given, **more):
        global count
        count += 1
        if count == step and not after: os.kill(os.getpid(), signal.SIGKILL)
        number = count
        try: return call(*given, **more)
        finally:
            if number == step and after: os.kill(os.getpid(), signal.SIGKILL)
    return run
for name in ("replace", "rename", "mkdir", "unlink", "rmdir"): setattr(os, name, watched(getattr(os, name)))
with whole_folder(Path(sys.argv[1])) as folder:
    for name in ("a", "b"): (folder / name).write_text("new")
"""


def run(code: str, *words: object) -> int:
    return subprocess.run([sys.executable, "-c", code, *map(str, words)], check=False, capture_output=True).returncode


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_folder_is_old_or_new_whatever_step_the_kill_comes_at(tmp_path: Path, when: str) -> None:
    steps = set()
    for step in range(1, 12):
        target = tmp_path / str(step) / "recipe"
        target.mkdir(parents=True)
        for name in ("a", "b", "c"):
            (target / name).write_text("old")
        code = run(REPLACING, target, step, when)
        recover(target)
        held = {path.name: path.read_text() for path in target.iterdir()}
        assert held in ({"a": "old", "b": "old", "c": "old"}, {"a": "new", "b": "new"}), step
        clean(target.parent)
        assert [path.name for path in target.parent.iterdir()] == ["recipe"], step
        steps.add(code)
        if code == 0:
            break
    assert steps == {0, -signal.SIGKILL}  # the last step was reached


def test_the_next_write_puts_back_what_a_kill_took_away(tmp_path: Path) -> None:
    for target in (tmp_path / "recipe", tmp_path / ("n" * 150)):
        target.mkdir()
        (target / "a").write_text("old")
        assert run(REPLACING, target, 3, "after") == -signal.SIGKILL
        assert not target.exists()
        with pytest.raises(RuntimeError), whole_folder(target):
            raise RuntimeError
        assert (target / "a").read_text() == "old"


def test_a_link_to_a_folder_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with whole_folder(tmp_path / "link") as folder:
        (folder / "a").write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "a").read_text() == "new"


def test_a_file_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(StorageError, match="something else"), whole_folder(tmp_path / "notes"):
        raise AssertionError("the work was begun")
    assert (tmp_path / "notes").read_text() == "mine"


LEAVING = """
import os, signal, sys
from pathlib import Path
from knowngood.files import scratch_folder, whole_file
with whole_file(Path(sys.argv[1], "scores.csv")) as file, scratch_folder(Path(sys.argv[1], "export")) as folder:
    file.write_bytes(b"half")
    (folder / "weights").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_leftovers_of_the_dead_go_and_nothing_else(tmp_path: Path) -> None:
    users = [".mine.tmp", "x.tmp", ".scores.csv.12345678.tmp", ".a.old", ".b.123-4-5.tmp", ".tmp"]
    for name in users:
        (tmp_path / name).write_text("mine")
    assert run(LEAVING, tmp_path) == -signal.SIGKILL
    left = {path.name for path in tmp_path.iterdir()} - set(users)
    assert len(left) == 2
    with whole_file(tmp_path / "lives") as mine, scratch_folder(tmp_path / "other"):  # cleans before it begins
        mine.write_text("")
        names = {path.name for path in tmp_path.iterdir()}
        assert not left & names
        assert mine.name in names
        clean(tmp_path)
        assert mine.exists()
    assert {path.name for path in tmp_path.iterdir()} == {*users, "lives"}


def test_what_another_machine_writes_is_left_for_a_day(tmp_path: Path) -> None:
    theirs = tmp_path / ".scores.csv.00000000-1-1-00000000.tmp"
    theirs.write_text("half")
    clean(tmp_path)
    assert theirs.exists()
    # its change time cannot be set back; a clock that runs ahead stands for it
    code = (
        "import sys, time; from pathlib import Path; from knowngood import files; now = time.time;"
        "files.time.time = lambda: now() + 90_000; files.clean(Path(sys.argv[1]))"
    )
    assert run(code, tmp_path) == 0
    assert not theirs.exists()


REFUSALS = (
    *("ENOSPC", "EDQUOT", "EFBIG", "EACCES", "EPERM", "EROFS", "ENOTDIR", "EEXIST", "EISDIR", "ENOTEMPTY", "EINVAL"),
    *("ENAMETOOLONG", "ELOOP", "EBUSY", "EXDEV", "EOPNOTSUPP", "EIO", "ESTALE"),
)


@pytest.mark.parametrize("number", REFUSALS)
def test_every_refusal_of_the_system_is_told(tmp_path: Path, number: str) -> None:
    code = getattr(errno, number)
    with pytest.raises(StorageError, match=r"x\.csv"), storage_errors(tmp_path / "x.csv"):
        raise OSError(code, os.strerror(code), str(tmp_path / "x.csv"))


def test_what_is_missing_elsewhere_is_not_the_targets_fault(tmp_path: Path) -> None:
    with pytest.raises(StorageError), storage_errors(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b").touch()
    with pytest.raises(FileNotFoundError), storage_errors(tmp_path / "a" / "b"):
        Path("/nowhere/at/all").read_text()


@pytest.mark.parametrize(
    ("place", "word"),
    [
        ("/proc/none", "No such file"),
        ("/proc/none/deeper/still", "No such file"),
        ("/sys/none", "none"),
        ("/dev/null", "is"),
        ("{}/file/below", "something else"),
        ("{}/link", "No such file"),
        ("{}/link/below", "something else"),
        ("{}/loop", "symbolic links"),
        ("{}/" + "x" * 300, "too long"),
        ("{}/new/" + "x" * 300, "too long"),
    ],
)
@pytest.mark.parametrize("folder", [True, False])
def test_places_that_cannot_be_written(tmp_path: Path, place: str, word: str, folder: bool) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(path.name for path in tmp_path.iterdir())
    target = Path(place.format(tmp_path))
    with pytest.raises((StorageError, ConfigError), match=word):
        check_writable(target, folder=folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    if target.parts[1] in ("proc", "sys") or target.parent.name == "file":
        with pytest.raises(StorageError), (whole_folder if folder else whole_file)(target) as scratch:
            (scratch / "x" if folder else scratch).touch()


def test_places_that_can_be_written_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text("mine")
    (tmp_path / "folder").mkdir()
    check_writable(tmp_path / "file.csv", folder=False)
    check_writable(tmp_path / "deep" / "er" / "file.csv", folder=False)
    check_writable(tmp_path / "folder", folder=True)
    check_writable(tmp_path / "deep" / "er", folder=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file.csv", "folder"]
    with pytest.raises(ConfigError, match="is a file"):
        check_writable(tmp_path / "file.csv", folder=True)
    with pytest.raises(ConfigError, match="is a folder"):
        check_writable(tmp_path / "folder", folder=False)


def test_a_full_disk_is_noticed_before_the_work(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path; from knowngood.files import *;"
        "from knowngood.errors import StorageError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "try: check_writable(Path(sys.argv[1], 'x'), folder=False)\n"
        "except StorageError as error: sys.exit(7 if 'full' in error.what else 8)"
    )
    assert run(code, tmp_path) == 7
