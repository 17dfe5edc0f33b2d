"""What ``import chainrule`` alone makes usable."""

import subprocess
import sys


def test_a_tensor_computes_in_a_process_that_imported_nothing_else():
    program = "import chainrule as cr; print((cr.tensor([1.0, 2.0]) * 3.0).sum().item())"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (finished.stdout, finished.stderr) == ("9.0\n", "")
