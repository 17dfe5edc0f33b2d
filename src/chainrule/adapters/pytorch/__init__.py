"""PyTorch: hooks on a live model fill the same record that a run of chainrule leaves."""
