"""The backward pass of a network as a program with names and reasons."""

from chainrule.see.derivation.derive import Derivation, derivation
from chainrule.see.derivation.lines import Change, Line

__all__ = ["Change", "Derivation", "Line", "derivation"]
