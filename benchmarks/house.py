"""Prints how the source is cut into files: sizes, imports, cycles, modules a verb needs, words outside the vocabulary.

python benchmarks/house.py [--src src] [--out benchmarks/results/house.json] [--check]

With --check it ends with exit code 1 where modules import each other in a circle, also by imports inside functions.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGE = "knowngood"
VERBS = {"train": "train", "compare": "compare"}
DIALECT = (
    *(
        "begun",
        "doubt",
        "doubted",
        "doubtful",
        "doubts",
        "film",
        "gone on",
        "held",
        "honest",
        "judged",
        "knew",
        "looked",
    ),
    *("maker", "makers", "opposing", "owes", "said", "swept", "taught", "teach", "teaches", "told", "vouch"),
)


def modules(src: Path) -> dict[str, Path]:
    """Returns the dotted name of every module below `src`, with its file."""
    files = sorted((src / PACKAGE).rglob("*.py"))
    return {".".join(f.relative_to(src).with_suffix("").parts).removesuffix(".__init__"): f for f in files}


def imports(path: Path, known: dict[str, Path], lazy: bool) -> set[str]:
    """Returns which of the project's modules a file imports, at its top or (`lazy`) anywhere; not for types alone."""
    found: set[str] = set()
    for node in _nodes(ast.parse(path.read_text(encoding="utf-8")), lazy):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in known}
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
    return found


def _nodes(tree: ast.AST, lazy: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if not lazy and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield node
        yield from _nodes(node, lazy)


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Returns the sets of modules that import each other in circles (Tarjan's strongly connected components)."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    names = sorted(graph)
    place = {name: row for row, name in enumerate(names)}
    edges = [(place[a], place[b]) for a in names for b in graph[a] if a != b]
    rows, columns = zip(*edges, strict=True)
    matrix = csr_matrix(([1] * len(edges), (rows, columns)), shape=(len(names), len(names)))
    count, label = connected_components(matrix, connection="strong")
    groups: list[list[str]] = [[] for _ in range(count)]
    for name, group in zip(names, label, strict=True):
        groups[group].append(name)
    return [group for group in groups if len(group) > 1]


def mutual(graph: dict[str, set[str]]) -> list[str]:
    """Returns the pairs of sibling packages that import each other."""
    arrows: set[tuple[str, str]] = set()
    for name, targets in graph.items():
        for target in targets:
            one, other = name.split("."), target.split(".")
            depth = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
            if depth is not None and depth < len(one) and depth < len(other):
                arrows.add((".".join(one[: depth + 1]), ".".join(other[: depth + 1])))
    return sorted(f"{a} <-> {b}" for a, b in arrows if a < b and (b, a) in arrows)


def reached(start: str, graph: dict[str, set[str]]) -> set[str]:
    """Returns every module on the way of one."""
    seen, waiting = {start}, [start]
    while waiting:
        for target in graph[waiting.pop()] - seen:
            seen.add(target)
            waiting.append(target)
    return seen


def dialect(src: Path) -> dict[str, int]:
    """Returns how often each word of `DIALECT` occurs in code and templates; names that hold it are not counted."""
    files = [
        f for f in (src / PACKAGE).rglob("*") if f.suffix in (".py", ".html", ".js") and "migrations" not in f.parts
    ]
    text = " ".join(file.read_text(encoding="utf-8").lower() for file in files)
    text = text.replace("held-out", "").replace("held out", "")
    counts = {word: len(re.findall(rf"\b{word}\b", text)) for word in DIALECT}
    return {word: count for word, count in counts.items() if count}


def measure(src: Path) -> dict[str, Any]:
    """Returns the figures of one tree."""
    known = modules(src)
    lines = {name: path.read_text(encoding="utf-8").count("\n") for name, path in known.items()}
    top = {name: imports(path, known, lazy=False) for name, path in known.items()}
    full = {name: imports(path, known, lazy=True) for name, path in known.items()}
    imported = 0
    for path in known.values():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                imported += (node.end_lineno or node.lineno) - node.lineno + 1
    sizes = list(lines.values())
    return {
        "files": len(sizes),
        "lines": sum(sizes),
        "median_file": statistics.median(sizes),
        "files_under_60": sum(size < 60 for size in sizes) / len(sizes),
        "import_lines": imported / sum(sizes),
        "cycles": cycles(top),
        "cycles_with_imports_in_functions": cycles(full),
        "packages_that_import_each_other": mutual(full),
        "modules_of": {verb: len(reached(f"{PACKAGE}.cli.{name}", full)) for verb, name in VERBS.items()},
        "dialect": dialect(src),
        "largest": dict(sorted(lines.items(), key=lambda item: -item[1])[:10]),
    }


def main() -> None:
    """Prints the figures, and writes them where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--src", type=Path, default=Path("src"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--check", action="store_true", help="exit code 1 where there is a cycle")
    given = parser.parse_args()
    found = measure(given.src)
    text = json.dumps(found, indent=2)
    print(text)
    if given.out is not None:
        given.out.write_text(text + "\n", encoding="utf-8")
    if given.check and (found["cycles"] or found["cycles_with_imports_in_functions"]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
