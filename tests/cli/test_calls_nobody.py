"""Nobody outside this machine is asked for anything, by whatever verb and runtime: addresses and names.

The verbs run in one process of their own under `strace`, which sees what C++ does as well, and with a hook that sees
what Python does where there is no `strace`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# What Python asks for: every connection and every name, of this process and of those that it starts.
HOOK = """
import os, sys
def seen(event, given):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        told = given[-1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "urllib.Request"):
        told = given[0]
    else:
        return
    with open(os.environ["TOLD"], "a") as handle: handle.write(f"{event} {told!r}\\n")
sys.addaudithook(seen)
"""
VERBS = """
import json, os, signal, sys, threading, time, urllib.request
from knowngood.cli.main import run
def told(*words):
    sys.argv = ["knowngood", *map(str, words)]
    try: run()
    except SystemExit as end: code = end.code
    print(json.dumps([" ".join(map(str, words)), code]), file=sys.__stderr__, flush=True)
def stop():
    for _ in range(600):
        time.sleep(0.2)
        try: urllib.request.urlopen("http://127.0.0.1:18753/health/ready").read()
        except OSError: continue
        break
    os.kill(os.getpid(), signal.SIGINT)
for words in json.loads(sys.argv[1]):
    if words[0] == "serve": threading.Thread(target=stop, daemon=True).start()
    told(*words)
"""
_HERE = re.compile(r"^(127\.|0\.0\.0\.0$|::1$|::$|::ffff:127\.|localhost$)")


def outside(trace: str) -> list[str]:
    """Returns the lines of a trace in which an address of another machine is asked for."""
    found = []
    for line in trace.splitlines():
        if not re.search(r"\b(connect|sendto|sendmsg)\(", line):
            continue
        for place in re.findall(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"', line):
            if not _HERE.match(place[0] or place[1]):
                found.append(line)
    return found


@pytest.mark.parametrize("what", ["verbs", "station", "cluster"])
def test_no_other_machine_is_asked_for(parts: Path, trained_run: Path, tmp_path: Path, what: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    lite = ("--model", "efficientnet_lite0", "--image-size", "64")
    verbs: list[tuple[object, ...]] = [
        ("check", parts),
        ("train", parts, "--out", tmp_path / "new", "--model", "efficientnet_lite0", "--image-size", "64"),
        ("export", run, "--precision", "fp32"),
        ("export", run, "--to", "onnx", "--precision", "fp32"),
        *(("predict", run, parts, "--runtime", one) for one in ("torch", "openvino", "onnxruntime")),
        (
            "export",
            run,
            "--precision",
            "int8",
            "--min-correlation",
            "-1",
            "--max-score",
            "1",
            "--max-overkill",
            "1",
            "--min-likeness",
            "-1",
        ),
        ("explain", run, parts / "chip", "--out", tmp_path / "maps"),
        ("features", parts, "--out", tmp_path / "x.parquet", *lite),
        ("audit", parts, "--out", tmp_path / "audit", *lite),
        ("classical", parts, "--out", tmp_path / "classical", *lite, "--classifiers", "lda"),
        ("bench", run, "--rounds", "1", "--count", "2"),
        ("weights",),
        ("tape", tmp_path / "tape", "--train", "4", "--test", "2", "--workers", "1"),
    ]
    if what == "station":
        verbs = [("serve", run, "--db", tmp_path / "record.db", "--port", "18753")]
    if what == "cluster":
        pytest.importorskip("ray", reason="the extra ray is not installed")
        verbs = [("features", parts, "--out", tmp_path / "rows", *lite, "--engine", "ray", "--worker-cores", "1")]
    for package in ("openvino", "onnxruntime", "nncf", "fastapi"):
        pytest.importorskip(package)
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    home = tmp_path / "home"
    home.mkdir()
    told = tmp_path / "told.txt"
    told.touch()
    kept = ("PATH", "PYTHONPATH", "OMP_NUM_THREADS", "LANG", "KNOWNGOOD_CPUS")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    paths = filter(None, (str(tmp_path), environment.get("PYTHONPATH")))
    environment |= {"HOME": str(home), "TOLD": str(told), "PYTHONPATH": os.pathsep.join(paths)}
    traced = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg", "-o", str(tmp_path / "trace.txt")]
    command = [*(traced if shutil.which("strace") else []), sys.executable, "-c", VERBS, json.dumps(verbs, default=str)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    ended = [json.loads(line) for line in done.stderr.splitlines() if line.startswith('["')]
    assert len(ended) == len(verbs), done.stderr[-3000:]
    for words, code in ended:
        assert code in (0, 130 if words.startswith("serve") else 0), (words, done.stderr[-3000:])
    assert not [line for line in told.read_text().splitlines() if not _is_here(line)]
    if shutil.which("strace"):
        assert outside((tmp_path / "trace.txt").read_text(errors="replace")) == []
    assert not [str(path) for path in home.rglob("*") if re.search(r"device_?id|Microsoft|auth_token", str(path), re.I)]


def _is_here(line: str) -> bool:
    """Says whether what Python asked for is on this machine: a loopback address, a socket of the file system."""
    event, _, what = line.partition(" ")
    if what.startswith(("'/", "b'", "'\\x00", "None")):
        return True
    host = re.search(r"'([^']*)'", what)
    return host is None or bool(_HERE.match(host[1])) or (event == "urllib.Request" and "//127.0.0.1" in host[1])


def test_the_trace_sees_what_is_asked_for() -> None:
    """The search finds what it should: the addresses that ONNX Runtime and Ray asked for."""
    lines = [
        '12 connect(23, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("169.254.169.254")}, 16) = -1',
        '12 connect(23, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.255.255.53")}, 16) = 0',
        '12 sendto(5, "x", 1, 0, {sa_family=AF_INET6, inet_pton(AF_INET6, "2603:1030::1", &sin6_addr)}, 28) = 1',
    ]
    here = [
        '12 connect(9, {sa_family=AF_INET, sin_port=htons(44217), sin_addr=inet_addr("127.0.0.1")}, 16) = 0',
        '12 connect(9, {sa_family=AF_INET6, inet_pton(AF_INET6, "::ffff:127.0.0.1", &sin6_addr)}, 28) = 0',
        '12 connect(9, {sa_family=AF_UNIX, sun_path="/tmp/ray/x"}, 110) = 0',
    ]
    assert outside("\n".join(lines + here)) == lines
    assert not _is_here("socket.connect ('169.254.169.254', 80)")
    assert not _is_here("socket.getaddrinfo 'metadata.google.internal'")
    assert _is_here("socket.connect ('127.0.0.1', 80)")


@pytest.mark.parametrize(("before", "after"), [({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")])
def test_what_the_user_has_set_stays(before: dict[str, str], after: str) -> None:
    code = "import os, knowngood; print(os.environ['ORT_DISABLE_TELEMETRY'], os.environ['HF_HUB_DISABLE_TELEMETRY'])"
    environment = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name} | before
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [after, "1"]
