"""The cache of machine code: private, verified, and never needed."""

from __future__ import annotations

import json
import logging
import os
import random
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from chainrule.backends.native import build, cache
from chainrule.errors import ChainruleWarning, MissingDependencyError
from handwritten import ADD_TO_ELEMENTS, LAG, written

TESTS = Path(__file__).parent.parent
KEY, OTHER = "ab" * 32, "cd" * 32
CODE = bytes(range(256)) * 10


@pytest.fixture
def directory(tmp_path, monkeypatch):
    path = tmp_path / "cache"
    monkeypatch.setenv("CHAINRULE_CACHE", str(path))
    cache._checked.cache_clear()
    yield path
    cache._checked.cache_clear()


def file_of(directory: Path, key: str = KEY) -> Path:
    return directory / f"{key}.code"


def test_what_is_stored_is_loaded(directory):
    assert cache.load(KEY) is None
    cache.store(KEY, CODE)
    assert cache.load(KEY) == CODE
    assert cache.load(OTHER) is None


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX")
def test_the_directory_and_its_files_are_private(directory):
    cache.store(KEY, CODE)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(file_of(directory).stat().st_mode) == 0o600
    assert sorted(p.name for p in directory.iterdir()) == [f"{KEY}.code", "trimmed"]


def damages():
    draw = random.Random(0)
    whole = 89 + len(CODE)
    for length in (0, 1, 24, 25, 57, 88, 89, 90, whole - 1):
        yield f"truncated to {length}", lambda b, n=length: b[:n]
    for _ in range(60):
        at, bit = draw.randrange(whole), draw.randrange(8)
        yield f"bit {bit} of byte {at}", lambda b, i=at, j=bit: b[:i] + bytes([b[i] ^ (1 << j)]) + b[i + 1 :]
    for at in (0, 25, 57, 89, whole - 64):
        yield f"zeros at {at}", lambda b, i=at: b[:i] + bytes(min(64, len(b) - i)) + b[i + 64 :]
    yield "longer", lambda b: b + b"\0"
    yield "another file", lambda b: b"\x7fELF" + bytes(100)


@pytest.mark.parametrize(("name", "damage"), list(damages()), ids=lambda v: v if isinstance(v, str) else "")
def test_a_damaged_entry_is_not_loaded_and_said_in_one_line(name, damage, directory, caplog):
    cache.store(KEY, CODE)
    path = file_of(directory)
    whole = path.read_bytes()
    assert damage(whole) != whole or name.startswith("zeros")
    path.write_bytes(damage(whole))
    with caplog.at_level(logging.INFO, "chainrule.cache"):
        found = cache.load(KEY)
    if damage(whole) == whole:
        assert found == CODE
        return
    assert found is None
    assert [r.message for r in caplog.records] == [f"cached machine code {path} is damaged: compiling it again"]
    cache.store(KEY, CODE)
    assert cache.load(KEY) == CODE


def test_an_entry_of_another_key_is_not_loaded(directory):
    cache.store(OTHER, CODE)
    os.rename(file_of(directory, OTHER), file_of(directory))
    assert cache.load(KEY) is None


@pytest.mark.skipif(os.name != "posix", reason="links and modes are POSIX")
def test_links_pipes_directories_and_files_open_to_others_are_not_loaded(directory, tmp_path):
    cache.store(KEY, CODE)
    path = file_of(directory)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(elsewhere)
    assert cache.load(KEY) is None
    path.unlink()
    os.mkfifo(path)
    assert cache.load(KEY) is None
    path.unlink()
    path.mkdir()
    assert cache.load(KEY) is None
    path.rmdir()
    path.write_bytes(elsewhere.read_bytes())
    path.chmod(0o666)
    assert cache.load(KEY) is None
    path.chmod(0o600)
    assert cache.load(KEY) == CODE


@pytest.mark.skipif(os.name != "posix", reason="modes of directories are POSIX")
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_directory_that_others_can_write_is_refused_once(mode, directory):
    directory.mkdir()
    directory.chmod(mode)
    with pytest.warns(ChainruleWarning, match=r"not cached: .* can be written by others \(mode 0"):
        cache.store(KEY, CODE)
    assert cache.load(KEY) is None  # a second warning would be an error here
    assert list(directory.iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(directory):
    directory.mkdir(mode=0o700)
    os.chown(directory, 12345, -1)
    with pytest.warns(ChainruleWarning, match="belongs to user 12345, not to user 0"):
        assert cache.load(KEY) is None


@pytest.mark.skipif(os.name != "posix", reason="links to directories are POSIX")
def test_a_link_in_the_place_of_the_directory_is_refused(directory, tmp_path):
    (tmp_path / "target").mkdir(mode=0o700)
    directory.symlink_to(tmp_path / "target")
    with pytest.warns(ChainruleWarning, match="is no directory"):
        cache.store(KEY, CODE)
    assert list((tmp_path / "target").iterdir()) == []


def test_no_place_to_write_means_no_cache(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "file" / "cache"))
    cache._checked.cache_clear()
    cache.store(KEY, CODE)
    assert cache.load(KEY) is None
    cache._checked.cache_clear()


@pytest.mark.parametrize(
    ("environment", "platform", "expected"),
    [
        ({"CHAINRULE_CACHE": "off"}, "linux", None),
        ({"CHAINRULE_CACHE": "/c", "XDG_CACHE_HOME": "/x"}, "linux", "/c"),
        ({"XDG_CACHE_HOME": "/x"}, "linux", "/x/chainrule"),
        ({"XDG_CACHE_HOME": "relative"}, "linux", "~/.cache/chainrule"),
        ({}, "linux", "~/.cache/chainrule"),
        ({}, "darwin", "~/Library/Caches/chainrule"),
        ({"LOCALAPPDATA": "/local"}, "win32", "/local/chainrule/cache"),
    ],
)
def test_where_machine_code_is_kept(environment, platform, expected):
    found = cache.directory_of(environment, platform)
    assert found == (None if expected is None else Path(expected).expanduser())


def test_the_oldest_entries_go_when_there_are_too_many(directory, monkeypatch):
    monkeypatch.setattr(cache, "MOST_BYTES", 10 * (len(CODE) + 89))
    now = time.time()
    for i in range(12):
        cache.store(f"{i:064x}", CODE)
        os.utime(file_of(directory, f"{i:064x}"), (now - i, now - i))
    (directory / "old.tmp").write_text("")
    os.utime(directory / "old.tmp", (now - 7200, now - 7200))
    (directory / "new.tmp").write_text("")
    cache._checked.cache_clear()
    cache.load(KEY)
    assert len(list(directory.iterdir())) == 15  # looked at a moment ago: nobody looks again so soon
    os.utime(directory / "trimmed", (now - cache.TRIM_EVERY - 1, now - cache.TRIM_EVERY - 1))
    cache._checked.cache_clear()
    cache.load(KEY)
    kept = [*(f"{i:064x}.code" for i in range(5)), "new.tmp", "trimmed"]
    assert sorted(p.name for p in directory.iterdir()) == kept


def test_every_part_of_what_code_depends_on_changes_its_key(directory, monkeypatch):
    machine = build._machine()
    build._made("define void @f() {\n  ret void\n}\n")
    assert len(list(directory.glob("*.code"))) == 1
    build._made("define void @f() {\n  ret void\n}\n\n")
    for i in range(len(machine.identity)):
        changed = tuple(v + "x" if j == i else v for j, v in enumerate(machine.identity))
        with monkeypatch.context() as patched:
            patched.setitem(machine.__dict__, "identity", changed)
            build._made("define void @f() {\n  ret void\n}\n")
    assert len(list(directory.glob("*.code"))) == 2 + len(machine.identity)


USE = """
import json, numpy as np, time
from chainrule.backends.native import build, runtime
from chainrule.backends.native.table import *
from handwritten import *
compiled = []
original = build._Machine.compile
build._Machine.compile = lambda self, text: compiled.append(1) or original(self, text)
x = np.zeros(8, np.int64)
tasks = tuple(Task(address(body), (0, amount), 0, 8, 0, 1) for body, amount in ((LAG, 1), (ADD_TO_ELEMENTS, 4)))
assert runtime.run(pack([Group((Block(tasks),), 0.0)]), np.array([x.ctypes.data], np.int64)) == 0
print(json.dumps([len(compiled), x.tolist()]))
"""
RESULT = [5, 4, 4, 4, 4, 4, 4, 4]


def users(directory: Path, number: int) -> list[list]:
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(TESTS)!r})\n{USE}"]
    environment = {**os.environ, "CHAINRULE_CACHE": str(directory)}
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(number)
    ]
    answers = [p.communicate(timeout=120) for p in started]
    assert [p.returncode for p in started] == [0] * number, answers
    return [json.loads(out) for out, _ in answers]


def test_eight_processes_at_once_and_then_one_without_a_compiler(tmp_path):
    directory = tmp_path / "cache"
    assert [x for _, x in users(directory, 8)] == [RESULT] * 8
    assert {p.name for p in directory.iterdir() if p.suffix != ".code"} == {"trimmed"}
    assert users(directory, 1) == [[0, RESULT]]


def test_damaged_machine_code_is_compiled_again_and_runs(tmp_path):
    directory = tmp_path / "cache"
    users(directory, 1)
    for path in directory.glob("*.code"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0x10
        path.write_bytes(content)
    assert users(directory, 1) == [[3, RESULT]]
    assert users(directory, 1) == [[0, RESULT]]


def test_code_is_compiled_once_a_process(directory):
    modules = [written(ADD_TO_ELEMENTS), written(LAG), written(LAG)]
    first = build.load(modules)
    assert build.load(modules) == first
    assert len(set(first.values())) == 2
    assert np.all(np.array(list(first.values())) > 0)


def test_a_missing_llvm_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'llvmlite>=0\.44'"):
        build._Machine()
