"""Output: where a command's words, results and JSON go."""

from __future__ import annotations

import json
import math
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from chainrule.cli.escape import escaped

# Where nobody has said how wide a line may be and no terminal is there to ask.
_WIDTH = 100


@dataclass(frozen=True)
class Output:
    """What ``--json`` and ``--quiet`` make of a command's output.

    Standard output is for one reader: a person, or with ``--json`` a program, and then the words for people go to
    standard error. ``piped``: standard output carries data of another form (CSV), so words go there too.
    """

    json: bool = False
    quiet: bool = False
    piped: bool = False

    @property
    def words(self) -> TextIO:
        """The stream of what people read."""
        return sys.stderr if self.json or self.piped else sys.stdout

    @property
    def live(self) -> bool:
        """Whether somebody is looking at standard output while it is written."""
        return not (self.json or self.quiet or self.piped) and sys.stdout.isatty()

    def say(self, text: str = "") -> None:
        """A line about the work, which ``--quiet`` leaves out."""
        if not self.quiet:
            print(text, file=self.words, flush=True)

    def show(self, text: str = "") -> None:
        """A line of what was asked for."""
        if not self.json:
            print(text, flush=True)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[int] = ()) -> None:
        """Rows under a header, in the width there is. right: the columns that are numbers; empty names: no header."""
        if self.json:
            return
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, show_header=any(header))
        written = [[escaped(value, 200) for value in row] for row in rows]
        for i, name in enumerate(header):
            # A number that is broken over two lines is read as another one; a word is not.
            least = max((len(row[i]) for row in written), default=1) if i in right else 4
            made.add_column(name, justify="right" if i in right else "left", overflow="fold", min_width=least)
        for row in written:
            made.add_row(*map(Text, row))
        Console(width=line_width(), highlight=False, soft_wrap=False).print(made)

    def next(self, *command: str) -> None:
        """The last line for people: the command that comes next."""
        self.say(next_line(*command))

    def result(self, found: dict[str, Any]) -> None:
        """With ``--json``: the one object, on a line of its own, the last of standard output."""
        if self.json:
            print(json_line(found), flush=True)


def next_line(*command: str) -> str:
    """The command that comes next, to be pasted into a shell."""
    return f"next: {escaped(shlex.join(('chainrule', *command)))}"


def json_line(found: dict[str, Any]) -> str:
    """One line of strict JSON: a number that is not finite becomes null."""
    return json.dumps(_finite(found), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def line_width() -> int:
    """Characters of a line: COLUMNS, or the terminal's."""
    return max(20, shutil.get_terminal_size((_WIDTH, 24)).columns)
