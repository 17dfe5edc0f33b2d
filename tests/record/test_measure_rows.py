"""Facts of rows: columns that vary, are constant, or are equal."""

import numpy as np

from chainrule.record.measure_rows import column_facts


def test_equal_columns_are_paired_with_the_first_of_them_and_constant_ones_are_not():
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 9))
    x[:, 4] = x[:, 7] = x[:, 1]
    x[:, 2] = 3.0
    x[:, 5] = random.permutation(x[:, 1])  # of the same values in another order
    x[:, 6] = np.where(np.arange(300) % 2, 1.0, 0.0)
    x[:, 8] = np.where(np.arange(300) % 2, 1.0, -0.0)
    found = column_facts(x)
    assert found.duplicated == ((1, 4), (1, 7), (6, 8))
    assert found.constant == (2,)


def test_the_first_of_equal_columns_is_found_wherever_they_stand():
    for seed in range(20):
        random = np.random.default_rng(seed)
        x = random.integers(0, 2, (64, 40)).astype(np.float64)
        first, second = sorted(random.choice(40, 2, replace=False).tolist())
        x[:, second] = x[:, first]
        pairs = [(i, j) for j in range(40) for i in range(j) if (x[:, i] == x[:, j]).all()]
        assert column_facts(x).duplicated == tuple(pairs) and (first, second) in pairs
