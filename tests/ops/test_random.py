"""Random numbers by counter: known answers, the same bits for any split, and the right distributions."""

import math

import numpy as np
import pytest

from chainrule import ops
from chainrule.errors import ArgumentError, GraphError
from chainrule.graph import NUMPY, evaluate, trace
from chainrule.spec import UINT32, TensorSpec

N = 40_000
# Philox-4x32-10 from the known-answer file of Random123 (Salmon et al. 2011): counter, key, result.
KNOWN_ANSWERS = [
    ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def philox(counter, key):
    """Philox-4x32-10 once more, in Python integers, as the paper's figure draws it."""
    left0, right0, left1, right1 = counter[1], counter[0], counter[3], counter[2]
    k0, k1 = key
    for round_ in range(10):
        if round_:
            k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
        high0, low0 = divmod(right0 * 0xD2511F53, 2**32)
        high1, low1 = divmod(right1 * 0xCD9E8D57, 2**32)
        right0, left0, right1, left1 = high1 ^ left0 ^ k0, low1, high0 ^ left1 ^ k1, low0
    return right0, left0, right1, left1


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_the_generator_gives_the_known_answers(counter, key, answer):
    assert philox(counter, key) == answer
    found = NUMPY.counter_bits(tuple(np.array(c, np.uint32) for c in counter), tuple(np.uint32(k) for k in key))
    assert tuple(int(w) for w in found) == answer[:2]


def test_a_word_is_the_generator_at_column_row_step_stream():
    key = ops.key(seed=0x1234567890, step=7, first_row=3)
    words = ops.random.counter_bits(np.arange(2)[:, None], np.arange(4), key, stream=9)
    for row in range(2):
        for column in range(4):
            wanted = philox((column, row + 3, 7, 9), (0x34567890, 0x12))
            assert (words[0][row, column].item(), words[1][row, column].item()) == wanted[:2]


@pytest.mark.parametrize("draw", [ops.uniform, ops.normal, ops.bernoulli])
@pytest.mark.parametrize("shape", [(10,), (10, 7), (10, 2, 3)])
def test_the_bits_do_not_depend_on_how_a_batch_is_split(draw, shape):
    whole = draw(shape, key=ops.key(5, 2)).numpy()
    parts = [draw((n, *shape[1:]), key=ops.key(5, 2, first)).numpy() for first, n in ((0, 4), (4, 1), (5, 5))]
    assert np.array_equal(whole, np.concatenate(parts))
    assert not np.array_equal(whole, draw(shape, key=ops.key(5, 3)).numpy())
    assert not np.array_equal(whole, draw(shape, key=ops.key(6, 2)).numpy())
    assert not np.array_equal(whole, draw(shape, key=ops.key(5, 2), stream=1).numpy())


def largest_gap(sample, distribution):
    """Kolmogorov's statistic times the root of n."""
    ordered = distribution(np.sort(sample))
    ranks = np.arange(len(ordered) + 1) / len(ordered)
    return math.sqrt(len(ordered)) * max((ranks[1:] - ordered).max(), (ordered - ranks[:-1]).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(N,), (200, N // 200)])
def test_uniform_and_normal_have_their_distributions(dtype, shape):
    # 1.95 is Kolmogorov's bound at one in a thousand; the key is fixed, so the test cannot flicker.
    u = ops.uniform(shape, dtype=dtype, key=ops.key(1)).numpy().ravel()
    assert u.dtype == np.dtype(dtype) and u.min() >= 0 and u.max() < 1
    assert largest_gap(u, lambda x: x) < 1.95
    z = ops.normal(shape, dtype=dtype, key=ops.key(2)).numpy().ravel().astype(float)
    assert largest_gap(z, np.vectorize(lambda x: 0.5 * (1 + math.erf(x / math.sqrt(2))))) < 1.95
    assert abs(z.mean()) < 4 / math.sqrt(N) and abs(z.var() - 1) < 4 * math.sqrt(2 / N)
    assert abs((z**3).mean()) < 4 * math.sqrt(15 / N) and abs((z**4).mean() - 3) < 4 * math.sqrt(96 / N)
    assert abs(np.corrcoef(z[:-1], z[1:])[0, 1]) < 4 / math.sqrt(N)


def test_ranges_means_and_deviations_are_applied():
    u = ops.uniform((N,), -2, 6, key=ops.key(1)).numpy()
    assert u.min() >= -2 and u.max() <= 6 and abs(u.mean() - 2) < 4 * 8 / math.sqrt(12 * N)
    z = ops.normal((N,), 3, 0.5, key=ops.key(1)).numpy()
    assert abs(z.mean() - 3) < 2 / math.sqrt(N) and abs(z.std() - 0.5) < 2 / math.sqrt(N)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_bernoulli_and_dropout_have_their_rates(p):
    found = ops.bernoulli((N,), p, key=ops.key(4)).numpy()
    assert found.dtype == bool and abs(found.mean() - p) <= 4 * math.sqrt(p * (1 - p) / N)
    mask = ops.dropout_mask(ops.as_tensor(np.ones(N)), p, ops.key(4), 0).numpy()
    assert set(np.unique(mask)) <= {0.0, 1 / (1 - p) if p < 1 else 0.0}
    assert abs((mask > 0).mean() - (1 - p)) <= 4 * math.sqrt(p * (1 - p) / N)


def test_a_permutation_holds_every_number_once_and_any_order_is_as_likely():
    assert sorted(ops.permutation(1000, key=ops.key(1)).tolist()) == list(range(1000))
    orders = [tuple(ops.permutation(3, key=ops.key(1, step)).tolist()) for step in range(3000)]
    counts = np.array([orders.count(order) for order in set(orders)])
    assert len(counts) == 6
    assert ((counts - 500) ** 2 / 500).sum() < 20.5  # chi-squared with 5 degrees of freedom, one in a thousand


def test_eager_draws_go_on_and_start_anew_by_seed():
    ops.manual_seed(3)
    first, second = ops.uniform((4,)).tolist(), ops.uniform((4,)).tolist()
    ops.manual_seed(3)
    assert first != second and ops.uniform((4,)).tolist() == first


def test_a_key_can_be_traced_and_must_be():
    graph = trace(lambda k: ops.normal((3,), key=k), TensorSpec((4,), UINT32)).graph
    key = ops.key(8, 1)
    assert np.array_equal(evaluate(graph, key.numpy())[0], ops.normal((3,), key=key).numpy())
    with pytest.raises(GraphError, match="needs the step's key"):
        trace(lambda x: ops.uniform((3,)), TensorSpec(()))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.key(2**64), "a seed has at most 64 bits"),
        (lambda: ops.key(0, -1), "a step is not negative"),
        (lambda: ops.key(0, 2**32), "a step and a first row have 32 bits"),
        (lambda: ops.key(0, 0, -1), "first_row=-1"),
        (lambda: ops.bernoulli((2,), 1.5), "between 0 and 1, got 1.5"),
    ],
)
def test_keys_and_probabilities_out_of_range_are_refused(call, message):
    with pytest.raises(ArgumentError, match=message):
        call()
