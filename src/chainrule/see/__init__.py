"""Seeing: the backward pass of a network as numbers and words."""

from chainrule.see.gradients import Gradients, activations, gradients

__all__ = ["Gradients", "activations", "gradients"]
