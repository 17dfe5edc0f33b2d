"""Pages of documentation as programs: their fenced blocks, run from top to bottom in one namespace."""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Closed, so that a block spelt ```py is refused rather than silently never run.
LANGUAGES = {"python", "console", "sh", "text", "toml", "json", "csv", "latex", ""}
PROMPT = "$ chainrule "
COMMAND_LINE = "import sys; from chainrule.cli.main import main; sys.exit(main())"
COMMAND_SECONDS = 300


class PageError(Exception):
    """A page that cannot be run as pasted, or that prints something else than it says."""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text and the line its text starts on."""

    language: str
    text: str
    line: int


def blocks(text: str, page: str) -> Iterator[Block]:
    """The fenced blocks of a page in order."""
    lines = text.splitlines()
    position = 0
    while position < len(lines):
        fence = re.match(r" *(`{3,}|~{3,}) *(\S*)", lines[position])
        if not fence:
            position += 1
            continue
        marks, language = fence.groups()
        if language not in LANGUAGES:
            known = ", ".join(sorted(LANGUAGES - {""}))
            raise PageError(f"{page}:{position + 1}: a block in '{language}'; write one of: {known}")
        start = position + 1
        end = next((n for n in range(start, len(lines)) if lines[n].strip() == marks), None)
        if end is None:
            raise PageError(f"{page}:{start}: this block is never closed with {marks}")
        yield Block(language, textwrap.dedent("\n".join(lines[start:end])), start + 1)
        position = end + 1


def run_page(path: Path) -> None:
    """Run a page in the current directory; raise what its code raises, or PageError where its words are not true."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed: str | None = None
    for block in blocks(path.read_text(encoding="utf-8"), path.name):
        place = f"{path.name}:{block.line}"
        if block.language == "text" and block.text.startswith("# prints"):
            if printed is None:
                raise PageError(f"{place}: '# prints' follows no block that was run")
            compare(printed, block.text.partition("\n")[2], place)
        elif block.language == "python":
            printed = run_python(block, path, namespace)
        elif block.language == "console":
            printed = "".join(run_command(command, place) for command in commands(block.text))


def run_python(block: Block, path: Path, namespace: dict[str, Any]) -> str:
    # Leading newlines put the block at its own line of the page, so that a traceback shows the page.
    code = compile("\n" * (block.line - 1) + block.text, str(path), "exec", dont_inherit=True)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(code, namespace)  # noqa: S102 - running the documentation's code is what this file is for
    return output.getvalue()


def commands(text: str) -> list[str]:
    """The chainrule commands of a console block, without their prompt."""
    joined = text.replace("\\\n", " ")
    return [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith(PROMPT)]


def run_command(command: str, place: str) -> str:
    """Run one `chainrule …` line; its exit code must be 0, or N where the line ends with `# exit N`."""
    expected = re.search(r"# exit (\d+)\s*$", command)
    words = shlex.split(command, comments=True)
    if {"|", ">", ">>", "<", "&&", "||", ";"} & set(words):
        raise PageError(f"{place}: '{command}' needs a shell; write one plain chainrule command a line")
    finished = subprocess.run(
        [sys.executable, "-c", COMMAND_LINE, *words[1:]],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=COMMAND_SECONDS,
        env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"},
    )
    wanted = int(expected[1]) if expected else 0
    if finished.returncode != wanted:
        said = f"{finished.stdout}{finished.stderr}"
        raise PageError(f"{place}: '{command}' exits {finished.returncode}, the page says {wanted}:\n{said}")
    return finished.stdout


def compare(printed: str, promised: str, place: str) -> None:
    """`...` in the promise matches anything; all else is exact, up to the last newline."""
    pattern = ".*?".join(re.escape(part) for part in promised.rstrip("\n").split("..."))
    if not re.fullmatch(pattern, printed.rstrip("\n"), re.DOTALL):
        raise PageError(f"{place}: the page promises\n{promised}\nbut this was printed\n{printed}")
