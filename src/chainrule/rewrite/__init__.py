"""Graph -> graph: say the same in core primitives, with less work and safer numbers."""

from chainrule.rewrite.algebra import simplify
from chainrule.rewrite.constants import fold
from chainrule.rewrite.contraction import contract
from chainrule.rewrite.dead import remove_dead
from chainrule.rewrite.expansion import CORE, expand
from chainrule.rewrite.pipeline import REWRITES, Rewrite, rewrite
from chainrule.rewrite.sharing import remove_barriers, share
from chainrule.rewrite.stability import stabilise

__all__ = [
    "CORE",
    "REWRITES",
    "Rewrite",
    "contract",
    "expand",
    "fold",
    "remove_barriers",
    "remove_dead",
    "rewrite",
    "share",
    "simplify",
    "stabilise",
]
