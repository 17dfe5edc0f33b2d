"""Graph -> program: what lies in memory, which loops fill it, what they share, and where scratch lies."""

from chainrule.lowering.lower import is_core, lower
from chainrule.lowering.memory import live_bytes

__all__ = ["is_core", "live_bytes", "lower"]
