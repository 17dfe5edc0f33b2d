"""The outside of the house: what a newcomer reads and runs first is there and true."""

import ast
import os
import re
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

import chainrule
import peers

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
BANNED = [
    "import pickle",
    "from marshal import loads",
    "    import os, json; import dill",
    "value = eval(text)",
    "exec(code)",
    "yaml.load(file)",
    "run(line, shell=True)",
    "np.load(path, allow_pickle=True)",
    "tempfile.mktemp()",
]
INNOCENT = [
    "np.load(path, allow_pickle=False)",
    "net.eval()",
    '"""Refuses a pickle."""',
    "evaluate(x)",
    "mkdtemp(folder)",
]


def script(name):
    """A script of scripts/ that is written in Python, as a module."""
    loader = SourceFileLoader(name.replace("-", "_"), str(ROOT / "scripts" / name))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def banned_stage(tree):
    """Run the ban list of scripts/check over a tree of its own."""
    (tree / "scripts").mkdir()
    (tree / "scripts" / "check").write_bytes((ROOT / "scripts" / "check").read_bytes())
    command = ["bash", str(tree / "scripts" / "check"), "banned"]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHON": sys.executable})


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT / "src").as_posix())
def test_every_file_says_in_its_first_line_what_it_holds(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith('"""')
    assert ast.get_docstring(ast.parse(text)).splitlines()[0].endswith((".", ":"))


def test_the_citation_names_the_version_of_the_package():
    version = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)[1]
    assert version == chainrule.__version__


def test_the_guide_for_contributors_stays_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) < 50


def test_the_readme_marks_one_main_and_one_test_command():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    marked_command = script("try-readme").marked_command
    assert marked_command(readme, "main-command").startswith("chainrule train ")
    assert marked_command(readme, "test-command") == "scripts/check"


@pytest.mark.parametrize(
    ("output", "accuracy"),
    [
        ("epoch 3  validation accuracy 96.1 %\nvalidation accuracy: 97.52%\nnext: …", 97.52),
        ("Validation accuracy 98 %", 98.0),
    ],
)
def test_the_accuracy_is_read_from_the_last_line_that_gives_it(output, accuracy):
    assert script("try-readme").validation_accuracy(output) == accuracy


def test_an_output_without_an_accuracy_is_a_failure():
    trial = script("try-readme")
    with pytest.raises(trial.Failed, match="no 'validation accuracy"):
        trial.validation_accuracy("accuracy unknown")


@pytest.mark.parametrize("line", BANNED)
def test_a_form_that_could_run_code_from_data_is_banned(line, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "planted.py").write_text(f"{line}\n", encoding="utf-8")
    result = banned_stage(tmp_path)
    assert result.returncode == 1, result.stderr
    assert "src/planted.py:1:" in result.stdout


def test_innocent_lines_are_not_banned(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "innocent.py").write_text("\n".join(INNOCENT), encoding="utf-8")
    result = banned_stage(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_missing_peer_skips_on_a_laptop_and_fails_where_all_must_be_there(monkeypatch):
    monkeypatch.delenv("CHAINRULE_REQUIRE_PEERS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no_such_peer is not installed"):
        peers.peer("no_such_peer")
    monkeypatch.setenv("CHAINRULE_REQUIRE_PEERS", "1")
    with pytest.raises(pytest.fail.Exception, match="CHAINRULE_REQUIRE_PEERS is set"):
        peers.peer("no_such_peer")


def test_torch_computes_on_one_thread_here():
    assert peers.peer("torch").get_num_threads() == 1


@pytest.mark.long
def test_both_commands_of_the_readme_work_in_a_new_environment():
    result = subprocess.run([sys.executable, str(ROOT / "scripts" / "try-readme")], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr
