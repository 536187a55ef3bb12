"""The station from the command line."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the review station comes with the extra review")


def test_users_are_added_listed_and_revoked(run_cli: Callable[..., Any], tmp_path: Path) -> None:
    db = tmp_path / "r.db"
    token = run_cli("users", "ann", "--role", "engineer", "--db", db).out.strip()
    assert token.startswith("kg_")
    assert run_cli("users", "ann", "--db", db).code == 2
    listed = run_cli("users", "--db", db, "--json").json["users"]
    assert [(one["name"], one["role"], one["revoked_at"]) for one in listed] == [("ann", "engineer", None)]
    assert token not in run_cli("users", "--db", db).out
    assert run_cli("users", "ann", "--revoke", "--db", db).code == 0
    assert run_cli("users", "ann", "--revoke", "--db", db).code == 2


def test_mistakes_are_told(run_cli: Callable[..., Any], trained_run: Path, tmp_path: Path) -> None:
    db = ("--db", tmp_path / "r.db")
    for words, said in (
        (("serve", tmp_path / "none", *db), "no recipe"),
        (("serve", trained_run, "--db", "mysql://x/y"), "--db"),
        (("serve", trained_run, *db, "--host", "0.0.0.0"), "knowngood users"),
        (("serve", trained_run, *db, "--inbox", tmp_path / "none"), "--inbox"),
        (("replay", trained_run, "4711", *db), "4711"),
    ):
        answer = run_cli(*words)
        assert answer.code == 2, answer.err
        assert said in answer.err


def test_a_station_inspects_ends_cleanly_and_its_inspections_can_be_repeated(
    run_cli: Callable[..., Any], trained_run: Path, photograph: Callable[..., Any], tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    db = tmp_path / "r.db"
    words = [sys.executable, "-m", "knowngood", "serve", str(trained_run), "--db", str(db), "--port", str(port)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    station = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment)
    try:
        assert station.stderr is not None
        said = next(line for line in station.stderr if "http://" in line)
        url = re.search(r"http://\S+", said)
        assert url is not None
        picture = tmp_path / "new.png"
        photograph(np.random.default_rng(4711), True).save(picture)
        body = b'--b\r\nContent-Disposition: form-data; name="images"; filename="4711.png"\r\n\r\n'
        body += picture.read_bytes() + b"\r\n--b--\r\n"
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        with urllib.request.urlopen(urllib.request.Request(f"{url[0]}/v1/inspect", body, kind)) as answer:
            found = json.load(answer)["results"][0]
    finally:
        station.send_signal(signal.SIGTERM)
        code = station.wait()
    assert code == 143  # as after Ctrl-C, when what was accepted is finished
    told = run_cli("replay", trained_run, "4711", "--db", db, "--json").json
    assert told["agrees"] is True
    assert told["inspections"][0]["then"]["defect_score"] == found["defect_score"]
    assert run_cli("replay", trained_run, "4711", "--db", db).code == 0
    for path in (tmp_path / "images").rglob("*"):
        if path.is_file():
            path.unlink()
    answer = run_cli("replay", trained_run, "4711", "--db", db)
    assert answer.code == 1
    told = run_cli("replay", trained_run, "4711", "--db", db, "--json").json
    assert "not kept" in told["inspections"][0]["why"]
