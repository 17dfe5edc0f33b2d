"""What a treatment changes in the user's code: lines before and after, in chainrule and in PyTorch."""

from collections.abc import Sequence
from dataclasses import dataclass

from chainrule.errors import ChainruleError

Pair = tuple[str, str]
"""A line as it was and as it shall be; empty where there was or shall be none."""


class NotApplicable(ChainruleError):
    """A remedy changes nothing here, or the network has no place for it; the message says which."""


@dataclass(frozen=True)
class Change:
    """The lines of one remedy. where: layers, in words, said once; empty for the whole training."""

    chainrule: tuple[Pair, ...]
    pytorch: tuple[Pair, ...]
    where: str = ""

    def diff(self, language: str = "chainrule") -> str:
        """The lines as a diff: "- old" above "+ new"."""
        pairs = self.chainrule if language == "chainrule" else self.pytorch
        lines = [f"{sign} {line}" for pair in pairs for sign, line in zip("-+", pair, strict=True) if line]
        if self.where and lines:
            lines[0] += f"    # {self.where}"
        return "\n".join(lines)


def diff_of(changes: Sequence[Change], language: str = "chainrule") -> str:
    """The lines of several changes; a line that is changed twice goes from its first form to its last."""
    lines: list[str] = []
    for change in changes:
        for line in change.diff(language).splitlines():
            earlier = "+ " + line[2:]
            if line.startswith("- ") and earlier in lines:
                lines.remove(earlier)
            else:
                lines.append(line)
    return "\n".join(lines)


def same(*pairs: Pair, where: str = "") -> Change:
    """Lines that read alike in both."""
    return Change(pairs, pairs, where)
