"""Fusion: what it joins, and where it stops."""

import numpy as np

import chainrule as cr
from chainrule.kernel import Nest
from chainrule.lowering.fusion import MOST_LOOPS


def test_nests_join_up_to_a_number_of_loops_and_give_what_they_gave_apart():
    arrays = [np.arange(50, dtype="f4") / (i + 1) for i in range(2 * MOST_LOOPS)]
    sums = cr.compile(lambda *xs: [(x * x).sum() for x in xs])
    found = [float(y.numpy()) for y in sums(*arrays)]
    loops = [len(s.loops) for s in sums.program.each() if isinstance(s, Nest)]
    assert sum(loops) >= len(arrays)
    assert MOST_LOOPS // 2 < max(loops) <= MOST_LOOPS
    np.testing.assert_allclose(found, [(a.astype("f8") ** 2).sum() for a in arrays], rtol=1e-6)
