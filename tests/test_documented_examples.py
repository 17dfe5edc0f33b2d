"""Every example of the README and of docs/ runs as pasted, and prints what it says it prints."""

from pathlib import Path

import numpy as np
import pytest

import chainrule.ops  # noqa: F401 - declares the operations, so that they are there before the first page
from chainrule.graph import OPERATIONS, PRIMITIVES
from page import PageError, blocks, run_command, run_page
from peers import peer

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """A page may set NumPy's print options and declare operations; the next page and other tests see none of it."""
    declared = [(table, dict(table)) for table in (PRIMITIVES, OPERATIONS)]
    with np.printoptions():
        yield
    for table, before in declared:
        table.clear()
        table.update(before)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_example_of_the_page_runs_as_pasted(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "import torch" in path.read_text(encoding="utf-8"):
        peer("torch")
    run_page(path)


def written(folder, text):
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    return page


def test_blocks_of_one_page_share_a_namespace(tmp_path):
    run_page(
        written(tmp_path, "```python\na = 2\n```\nwords\n```python\nprint(a + 1)\n```\n```text\n# prints\n3\n```\n")
    )


def test_a_wrong_promise_of_what_is_printed_is_caught(tmp_path):
    page = written(tmp_path, "```python\nprint('loss 0.25')\n```\n\n```text\n# prints\nloss 0.24\n```\n")
    with pytest.raises(PageError, match=r"page\.md:6: the page promises"):
        run_page(page)


def test_three_dots_match_anything_and_the_rest_stays_exact(tmp_path):
    code = "```python\nprint('took 3 s\\nloss 0.25')\n```\n"
    run_page(written(tmp_path, code + "```text\n# prints\ntook ... s\nloss 0.25\n```\n"))
    with pytest.raises(PageError):
        run_page(written(tmp_path, code + "```text\n# prints\ntook ... s\nloss 0x25\n```\n"))


def test_a_failing_example_names_its_line_of_the_page(tmp_path):
    page = written(tmp_path, "# Title\n\n```python\na = 1\na / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as caught:
        run_page(page)
    assert (caught.traceback[-1].path.name, caught.traceback[-1].lineno + 1) == ("page.md", 5)


@pytest.mark.parametrize(("text", "complaint"), [("```py\n1\n```\n", "'py'"), ("```python\n1\n", "never closed")])
def test_a_block_that_would_silently_never_run_is_refused(text, complaint):
    with pytest.raises(PageError, match=complaint):
        list(blocks(text, "page.md"))


def test_a_promise_without_anything_that_ran_is_refused(tmp_path):
    with pytest.raises(PageError, match="follows no block"):
        run_page(written(tmp_path, "```text\n# prints\n3\n```\n"))


def test_a_command_that_needs_a_shell_is_refused():
    with pytest.raises(PageError, match="needs a shell"):
        run_command("chainrule info | head", "page.md:1")


def test_the_exit_code_of_a_command_is_checked(monkeypatch):
    monkeypatch.setattr("page.COMMAND_LINE", "import sys; print(sys.argv[2]); sys.exit(2)")
    assert run_command("chainrule train 'no such file' # exit 2", "page.md:1") == "no such file\n"
    with pytest.raises(PageError, match="exits 2, the page says 0"):
        run_command("chainrule train nothing", "page.md:1")
