"""Backpropagation you can see through: train neural networks, see the backward pass, mend what stalls."""

__version__ = "0.1.0"
