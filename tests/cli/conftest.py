"""What the tests of the command line share: a command run in this process, or in one of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chainrule.cli.main import main

SOURCES = Path(__file__).resolve().parents[2] / "src"


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The last line of standard output."""
        return json.loads(self.out.splitlines()[-1])


@pytest.fixture
def command(capsys, tmp_path, monkeypatch):
    """`command("train", "digits")` runs the command line in this process, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("CHAINRULE_TRACEBACK", raising=False)

    def run(*words: object) -> Ended:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


@pytest.fixture
def start(tmp_path, monkeypatch):
    """`start("train", "digits")` starts a process of its own; one that still runs when the test ends is killed."""
    monkeypatch.chdir(tmp_path)
    started = []

    def run(*words: object, **environment: str) -> subprocess.Popen:
        path = os.pathsep.join(filter(None, [str(SOURCES), os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(
            [sys.executable, "-m", "chainrule", *map(str, words)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
            env={**os.environ, "PYTHONPATH": path, "PYTHONUTF8": "1", **environment},
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def houses(tmp_path):
    """A CSV with missing values, a column of words, a hostile column name and a numeric target that can be learned."""
    rows = ["size,city,\x1b[31mrooms\u202e,price"]
    for i in range(200):
        size, city, rooms = 30 + (37 * i) % 170, ("Rome", "Oslo", "Bern")[i % 3], 1 + (i * 7) % 5
        price = 1000 * size + 30_000 * (i % 3) + 5000 * rooms
        rows.append(f"{'' if i % 17 == 3 else size},{'' if i % 23 == 5 else city},{rooms},{price}.5")
    path = tmp_path / "houses.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path
