"""Nests as machine code do what the nest means, at every size and stride, and touch nothing else."""

import numpy as np
import pytest

from backends.build import run
from backends.evaluate import Evaluation
from backends.guard import SIZES as SIZES_GUARDED
from backends.guard import Guarded, needs_mprotect
from chainrule.backends.native.emit import code_of
from chainrule.errors import GraphError
from chainrule.kernel import (
    Accumulate,
    Affine,
    Buffer,
    Const,
    Gather,
    LaneLoop,
    Load,
    Local,
    Nest,
    SerialLoop,
    Store,
    op,
    variable,
)
from chainrule.kernel.scalar import ARITHMETIC, COMPARISONS, FUNCTIONS, LOGIC
from chainrule.spec import BOOL, DTYPES, FLOAT32, FLOAT64, INT32, INT64, UINT32

UINT8 = DTYPES["uint8"]
NUMBERS = (UINT8, INT32, INT64, UINT32, FLOAT32, FLOAT64)
SIZES = (*range(35), 47, 48, 49, 63, 64, 65, 67, 127, 128, 129)
TOLERANCE = {FLOAT32: 4 * 2.0**-23, FLOAT64: 1e-13}


def along(stride=1, start=0, name="i"):
    return Affine(start, ((name, stride),) if stride else ())


def buffers_of(arrays):
    return tuple(Buffer(a.size, a.dtype, "input") for a in arrays)


def agree(nest, arrays, exact=True, buffers=None):
    """Run a nest both ways on copies of ``arrays``; every array must come out the same."""
    expected, found = [a.copy() for a in arrays], [a.copy() for a in arrays]
    Evaluation(nest, expected).run()
    run(nest, buffers or buffers_of(arrays), found)
    for e, f in zip(expected, found, strict=True):
        if exact or e.dtype not in TOLERANCE:
            np.testing.assert_array_equal(f, e)
        else:
            np.testing.assert_allclose(f, e, rtol=TOLERANCE[e.dtype], atol=np.finfo(e.dtype).smallest_subnormal)
    return found


def elementwise(n, value, out=1, at=None):
    return Nest((), (), (LaneLoop("i", n, stores=(Store(out, at or along(), value),)),))


def numbers(dtype, n, seed=0, kind="any"):
    """Values that meet every branch: signs, zeros, extremes, NaN and infinities; ``positive`` leaves signs out."""
    random = np.random.default_rng(seed)
    if dtype == BOOL:
        return random.integers(2, size=n).astype(bool)
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        special = np.array([0, 1, 2, 3, limits.max, limits.min, limits.max - 1], dtype)
        if dtype.kind == "i":
            special = np.append(special, np.array([-1, -2, -7], dtype))
        small = random.integers(0 if dtype.kind == "u" else -20, 20, n).astype(dtype)
        return np.where(random.integers(3, size=n) == 0, random.choice(special, n), small).astype(dtype)
    special = np.array([0.0, -0.0, 1, -1, 0.5, 2, np.inf, -np.inf, np.nan, 1e-42, 3e38, -3e38, 1e-30], dtype)
    spread = random.normal(0, 10.0 ** random.integers(-3, 3, n)).astype(dtype)
    return np.where(random.integers(3, size=n) == 0, random.choice(special, n), spread).astype(dtype)


def same_values(a, b, dtype, approximately):
    if approximately and dtype in TOLERANCE:
        np.testing.assert_allclose(a, b, rtol=TOLERANCE[dtype], atol=np.finfo(dtype).smallest_subnormal)
    else:
        np.testing.assert_array_equal(a, b)


APPROXIMATE = ("exp", "expm1", "log", "log1p", "sin", "cos", "tanh", "erf", "pow")


def operations():
    for dtype in NUMBERS:
        for name in (*ARITHMETIC, *COMPARISONS):
            if not (name == "divide" and dtype.kind != "f"):
                yield name, dtype, 2
        for name in FUNCTIONS:
            if dtype.kind == "f" or name in ("negative", "abs", "sign", "floor", "ceil", "round"):
                yield name, dtype, 1
        yield "isnan", dtype, 1
        yield "isfinite", dtype, 1
    for name in (*LOGIC, *COMPARISONS, "maximum", "minimum", "add", "multiply"):
        yield name, BOOL, 2
    yield "logical_not", BOOL, 1


@pytest.mark.parametrize(("name", "dtype", "count"), [*operations()], ids=lambda v: str(v))
def test_every_operation_agrees_with_numpy_on_every_dtype(name, dtype, count):
    n = 531
    arrays = [numbers(dtype, n, seed) for seed in range(count)]
    if name == "pow" and dtype.kind != "f":
        arrays[1] = np.abs(arrays[1] % 7).astype(dtype)
    if name in ("sin", "cos"):
        arrays[0] = np.where(np.abs(arrays[0]) > 1e5, dtype.type(3), arrays[0])
    value = op(name, *(Load(dtype, k, along()) for k in range(count)))
    agree(elementwise(n, value, out=count), [*arrays, np.zeros(n, value.dtype)], exact=name not in APPROXIMATE)


@pytest.mark.parametrize("given", [*DTYPES.values()], ids=str)
@pytest.mark.parametrize("dtype", [*DTYPES.values()], ids=str)
def test_casts_agree_with_numpy_where_the_value_fits(given, dtype):
    n = 301
    x = numbers(given, n)
    if given.kind == "f" and dtype.kind in "iu":
        low, high = (0, 200) if dtype == UINT8 else (-(2**30) * (dtype.kind == "i"), 2**30)
        x = np.where((x > low) & (x < high), x, given.type(7.9))
    value = op("cast", Load(given, 0, along()), dtype=dtype)
    agree(elementwise(n, value), [x, np.zeros(n, dtype)])


@pytest.mark.parametrize("dtype", (UINT8, INT32, INT64, UINT32), ids=str)
def test_a_float_outside_an_integers_range_becomes_its_nearest_end(dtype):
    x = np.array([np.inf, -np.inf, np.nan, 1e30, -1e30])
    _, found = agree_free(elementwise(5, op("cast", Load(FLOAT64, 0, along()), dtype=dtype)), [x, np.zeros(5, dtype)])
    limits = np.iinfo(dtype)
    assert found.tolist() == [limits.max, limits.min, 0, limits.max, limits.min]


def agree_free(nest, arrays):
    """Run without an expectation; the arrays afterwards."""
    found = [a.copy() for a in arrays]
    run(nest, buffers_of(arrays), found)
    return found


@pytest.mark.parametrize("name", ("floor_divide", "remainder"))
@pytest.mark.parametrize("dtype", (UINT8, INT32, INT64, UINT32), ids=str)
def test_integer_division_by_a_constant_and_by_zero_agrees_with_numpy(name, dtype):
    for divisor in (0, 1, 3, 8, 100):
        x = numbers(dtype, 67)
        value = op(name, Load(dtype, 0, along()), Const(dtype, divisor))
        agree(elementwise(67, value), [x, np.zeros(67, dtype)])


@pytest.mark.parametrize("exponent", (-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 2.5))
@pytest.mark.parametrize("dtype", (FLOAT32, FLOAT64), ids=str)
def test_powers_with_a_constant_exponent_agree_with_numpy(dtype, exponent):
    x = np.abs(numbers(dtype, 200))
    value = op("pow", Load(dtype, 0, along()), Const(dtype, exponent))
    agree(elementwise(200, value), [x, np.zeros(200, dtype)], exact=False)


@pytest.mark.parametrize("dtype", (INT32, INT64, UINT32, UINT8), ids=str)
def test_integer_powers_wrap_as_numpys_do(dtype):
    base, exponent = numbers(dtype, 200), np.random.default_rng(1).integers(0, 70, 200).astype(dtype)
    value = op("pow", Load(dtype, 0, along()), Load(dtype, 1, along()))
    agree(elementwise(200, value, out=2), [base, exponent, np.zeros(200, dtype)])


@pytest.mark.parametrize("dtype", [*DTYPES.values()], ids=str)
def test_where_chooses_by_lane(dtype):
    n = 77
    arrays = [numbers(BOOL, n), numbers(dtype, n, 1), numbers(dtype, n, 2), np.zeros(n, dtype)]
    value = op("where", Load(BOOL, 0, along()), Load(dtype, 1, along()), Load(dtype, 2, along()))
    agree(elementwise(n, value, out=3), arrays)


def test_philox_agrees_with_its_definition_in_whole_numbers():
    n = 100
    words = [np.random.default_rng(k).integers(0, 2**32, n, dtype=np.uint32) for k in range(6)]
    loads = [Load(UINT32, k, along()) for k in range(6)]
    stores = (Store(6, along(), op("philox0", *loads)), Store(7, along(), op("philox1", *loads)))
    agree(Nest((), (), (LaneLoop("i", n, stores=stores),)), [*words, *[np.zeros(n, np.uint32)] * 2])


@pytest.mark.parametrize("dtype", [*DTYPES.values()], ids=str)
@pytest.mark.parametrize("stride", (0, 1, 2, -1, -3))
def test_loads_and_stores_work_at_every_size_and_stride(dtype, stride):
    for n in SIZES:
        room = max(1, abs(stride) * n)
        at = along(stride, room - 1 if stride < 0 else 0)
        x, y = numbers(dtype, room), np.zeros(room, dtype)
        agree(elementwise(n, Load(dtype, 0, at)), [x, np.zeros(max(n, 1), dtype)])
        agree(elementwise(n, Load(dtype, 0, along()), at=at), [numbers(dtype, max(n, 1)), y])


@pytest.mark.parametrize("stride", (1, 3, -2))
@pytest.mark.parametrize("dtype", (FLOAT32, FLOAT64, INT64), ids=str)
def test_adding_stores_add_to_what_is_there(dtype, stride):
    for n in (0, 1, 15, 16, 50):
        at = along(stride, 3 * n if stride < 0 else 0)
        x, y = np.arange(max(n, 1)).astype(dtype), np.arange(3 * n + 1).astype(dtype)
        agree(Nest((), (), (LaneLoop("i", n, stores=(Store(1, at, Load(dtype, 0, along()), adds=True),)),)), [x, y])


def test_lanes_that_add_to_one_element_all_count_in_order():
    for n in (1, 5, 16, 40):
        x = np.random.default_rng(0).normal(size=n).astype(np.float32)
        store = Store(1, Affine(0), Load(FLOAT32, 0, along()), adds=True)
        agree(Nest((), (), (LaneLoop("i", n, stores=(store,)),)), [x, np.ones(1, np.float32)])


@pytest.mark.parametrize("stride", (0, 1, 2))
@pytest.mark.parametrize("dtype", [*DTYPES.values()], ids=str)
def test_a_load_with_a_predicate_reads_only_where_it_is_true(dtype, stride):
    """Positions 5 too low and 5 too high for the buffer, hidden by the predicate."""
    n = 60
    size = stride * 49 + 1
    i = variable("i")
    inside = op("logical_and", op("greater_equal", i, Const(INT64, 5)), op("less", i, Const(INT64, 55)))
    x = numbers(dtype, size)
    load = Load(dtype, 0, along(stride, -5 * stride), inside, other=True)
    agree(elementwise(n, load), [x, np.zeros(n, dtype)])


@pytest.mark.parametrize("dtype", [*DTYPES.values()], ids=str)
def test_gathers_read_nothing_outside_the_buffer(dtype):
    for n in (1, 16, 61):
        at = np.random.default_rng(n).integers(-20, 30, n)
        at[0] = np.iinfo(np.int64).min
        x = numbers(dtype, 13)
        gather = Gather(dtype, 0, Load(INT64, 1, along()), 13, other=1)
        agree(elementwise(n, gather, out=2), [x, at, np.zeros(n, dtype)])


@pytest.mark.parametrize("adds", (False, True))
@pytest.mark.parametrize("dtype", (FLOAT32, INT32, FLOAT64), ids=str)
def test_stores_at_computed_positions_meet_in_order_and_stay_inside(dtype, adds):
    for n in (1, 16, 61):
        at = np.random.default_rng(n).integers(-3, 12, n)
        x = np.random.default_rng(n).normal(0, 9, n).astype(dtype)
        store = Store(2, Load(INT64, 1, along()), Load(dtype, 0, along()), adds=adds)
        agree(Nest((), (), (LaneLoop("i", n, stores=(store,)),)), [x, at, np.ones(9, dtype)])


@pytest.mark.parametrize("adds", (False, True))
@pytest.mark.parametrize("dtype", (FLOAT32, BOOL, INT64), ids=str)
def test_rows_at_loaded_positions_are_read_and_written_side_by_side(dtype, adds):
    """Table rows by index, as an embedding has them; some rows are not there, some come twice."""
    for columns in (1, 5, 16, 40):
        rows = np.array([3, 0, 3, -1, 9, 5, 0])
        index = Load(INT64, 1, Affine(0, (("r", 1),)))
        start = op("subtract", op("multiply", index, Const(INT64, columns)), Const(INT64, 2))
        position = op("add", start, variable("i"))
        table = np.arange(6 * columns).astype(dtype)
        at = Affine(0, (("r", columns), ("i", 1)))
        taken = Nest(
            ("r",), (7,), (LaneLoop("i", columns, stores=(Store(2, at, Gather(dtype, 0, position, table.size)),)),)
        )
        agree(taken, [table, rows, np.zeros(7 * columns, dtype)])
        put = Nest(("r",), (7,), (LaneLoop("i", columns, stores=(Store(2, position, Load(dtype, 0, at), adds),)),))
        agree(put, [np.resize(table, 7 * columns), rows, np.ones(6 * columns, dtype)])


def test_positions_next_to_each_other_are_read_without_a_gather():
    position = op("add", op("multiply", Load(INT64, 1, Affine(0)), Const(INT64, 9)), variable("i"))
    x = np.zeros(40, np.float32)
    buffers = buffers_of([x, np.zeros(1, np.int64), x])
    assert "masked.gather" not in code_of(elementwise(40, Gather(FLOAT32, 0, position, 40), out=2), buffers).text
    apart = op("multiply", position, Const(INT64, 2))
    assert "masked.gather" in code_of(elementwise(40, Gather(FLOAT32, 0, apart, 40), out=2), buffers).text


def column_nest(rows, columns, dtype=FLOAT32, how="sum"):
    x = Load(dtype, 0, Affine(0, (("i", 1), ("r", columns))))
    serial = SerialLoop(("r",), (rows,), (Accumulate("s", how, x),))
    return Nest((), (), (LaneLoop("i", columns, (serial,), (Store(1, along(), Local(dtype, "s")),)),))


JOINED = [*((d, h) for d in NUMBERS for h in ("sum", "maximum", "minimum")), (BOOL, "all"), (BOOL, "any")]


@pytest.mark.parametrize(("dtype", "how"), JOINED, ids=str)
def test_accumulations_over_rows_and_over_lanes_have_the_fixed_order(dtype, how):
    for rows, columns in ((0, 5), (1, 1), (3, 16), (4, 37), (5, 0)):
        x = numbers(dtype, max(rows * columns, 1))
        agree(column_nest(rows, columns, dtype, how), [x, np.zeros(max(columns, 1), dtype)])
        load = Load(dtype, 0, Affine(0, (("r", columns), ("i", 1))))
        over = LaneLoop("i", columns, accumulates=(Accumulate("s", how, load),))
        store = LaneLoop("j", 1, stores=(Store(1, Affine(0, (("r", 1),)), Local(dtype, "s")),))
        agree(Nest(("r",), (rows,), (over, store)), [x, np.zeros(max(rows, 1), dtype)])


@pytest.mark.parametrize("over_rows", [True, False])
def test_sums_of_widened_products_have_the_bits_of_a_product_and_a_sum(over_rows):
    rng, rows, columns = np.random.default_rng(2), 7, 53
    x, y = ((rng.normal(size=rows * columns) * 2.0 ** rng.integers(-70, 70, rows * columns)).astype("f") for _ in "xy")
    for array in (x, y):
        array[rng.integers(0, array.size, 5)] = [0, 1e-45, -3e-40, 3e38, -3e38]
        array[rng.integers(6 * columns, array.size, 3)] = [np.inf, -np.inf, np.nan]
    at = Affine(0, (("r", columns), ("i", 1)))
    widened = [op("cast", Load(FLOAT32, b, at), dtype=FLOAT64) for b in (0, 1)]
    # In float64 itself a product is rounded, so nothing may be fused: x / 3 has all 53 bits.
    full = [op("divide", w, Const(FLOAT64, 3.0)) for w in widened]
    for factors in (widened, full):
        product = Accumulate("s", "sum", op("multiply", *factors))
        if over_rows:
            loop = LaneLoop("i", columns, (SerialLoop(("r",), (rows,), (product,)),), (Store(2, along(), S),))
            agree(Nest((), (), (loop,)), [x, y, np.zeros(columns)])
        else:
            store = LaneLoop("j", 1, stores=(Store(2, Affine(0, (("r", 1),)), S),))
            nest = Nest(("r",), (rows,), (LaneLoop("i", columns, accumulates=(product,)), store))
            with np.errstate(invalid="ignore"):
                agree(nest, [x, y, np.zeros(rows)])


S = Local(FLOAT64, "s")


def test_a_running_sum_stores_what_it_has_so_far():
    rows, columns = 6, 21
    at = Affine(0, (("i", 1), ("r", columns)))
    serial = SerialLoop(
        ("r",), (rows,), (Accumulate("s", "sum", Load(FLOAT32, 0, at)),), (Store(1, at, Local(FLOAT32, "s")),)
    )
    x = np.random.default_rng(0).normal(size=rows * columns).astype(np.float32)
    agree(Nest((), (), (LaneLoop("i", columns, (serial,)),)), [x, np.zeros_like(x)])


def test_serial_loops_nest_follow_each_other_and_keep_constants_outside():
    a, b, n = 3, 4, 19
    x = Load(FLOAT64, 0, Affine(0, (("i", 1), ("p", b * n), ("q", n))))
    bias, scale = Load(FLOAT64, 1, along()), Load(FLOAT64, 1, Affine(2, (("p", 1),)))
    value = op("multiply", op("add", x, bias), scale)
    first = SerialLoop(("p", "q"), (a, b), (Accumulate("s", "sum", value), Accumulate("m", "maximum", x)))
    again = op("multiply", op("subtract", x, Local(FLOAT64, "m")), scale)
    second = SerialLoop(("q", "p"), (b, a), (Accumulate("t", "sum", again),))
    result = op("add", op("add", Local(FLOAT64, "s"), Local(FLOAT64, "t")), bias)
    loop = LaneLoop("i", n, (first, second), (Store(2, along(), result),))
    random = np.random.default_rng(0)
    agree(Nest((), (), (loop,)), [random.normal(size=a * b * n), random.normal(size=n), np.zeros(n)])


def softmax_nest(rows, columns, dtype=FLOAT32):
    at = Affine(0, (("r", columns), ("i", 1)))
    x = Load(dtype, 0, at)
    shifted = op("exp", op("subtract", x, Local(dtype, "m")))
    return Nest(("r",), (rows,), (
        LaneLoop("i", columns, accumulates=(Accumulate("m", "maximum", x),)),
        LaneLoop("i", columns, stores=(Store(1, at, shifted),), accumulates=(Accumulate("s", "sum", shifted),)),
        LaneLoop("i", columns, stores=(Store(2, at, op("divide", Load(dtype, 1, at), Local(dtype, "s"))),)),
    ))  # fmt: skip


@pytest.mark.parametrize("dtype", (FLOAT32, FLOAT64), ids=str)
def test_softmax_over_rows_in_three_lane_loops_agrees_with_numpy(dtype):
    for rows, columns in ((1, 1), (7, 10), (3, 16), (5, 45)):
        x = np.random.default_rng(0).normal(0, 5, rows * columns).astype(dtype)
        agree(softmax_nest(rows, columns, dtype), [x, np.zeros_like(x), np.zeros_like(x)], exact=False)


def test_grids_of_three_variables_visit_every_point():
    a, b, c, n = 2, 3, 5, 7
    at = Affine(0, (("a", b * c * n), ("b", c * n), ("c", n), ("i", 1)))
    turned = Affine(0, (("a", n), ("b", a * n), ("c", a * b * n), ("i", 1)))
    value = op("add", Load(INT64, 0, at), op("multiply", variable("b"), op("add", variable("c"), variable("i"))))
    nest = Nest(("a", "b", "c"), (a, b, c), (LaneLoop("i", n, stores=(Store(1, turned, value),)),))
    x = np.arange(a * b * c * n)
    agree(nest, [x, np.zeros_like(x)])


def test_parts_of_the_grid_and_of_the_lanes_give_the_bits_of_the_whole():
    rows, columns = 9, 100
    at = Affine(0, (("r", columns), ("i", 1)))
    value = op("tanh", op("exp", Load(FLOAT32, 0, at)))
    nest = Nest(("r",), (rows,), (LaneLoop("i", columns, stores=(Store(1, at, value),)),))
    x = np.random.default_rng(0).normal(size=rows * columns).astype(np.float32)
    whole, parts = [x, np.zeros_like(x)], [x, np.zeros_like(x)]
    run(nest, buffers_of(whole), whole)
    for points in ((0, 2), (2, 3), (3, 3), (3, 9)):
        for lanes in ((0, 7), (7, 39), (39, 39), (39, 100)):
            run(nest, buffers_of(parts), parts, points, lanes)
    np.testing.assert_array_equal(parts[1].view(np.uint32), whole[1].view(np.uint32))
    whole, parts = ([x, np.zeros_like(x), np.zeros_like(x)] for _ in range(2))
    nest = softmax_nest(rows, columns)
    run(nest, buffers_of(whole), whole)
    for points in ((0, 4), (4, 5), (5, 9)):
        run(nest, buffers_of(parts), parts, points)
    np.testing.assert_array_equal(parts[2].view(np.uint32), whole[2].view(np.uint32))


def test_an_update_in_place_reads_all_that_it_needs_before_it_stores():
    """New moment and weight where buffers 3 and 4 are the memory of 1 and 2."""
    n = 50
    g, m, p = (Load(FLOAT32, k, along()) for k in range(3))
    new = op("add", op("multiply", m, Const(FLOAT32, 0.5)), g)
    stores = (Store(3, along(), new), Store(4, along(), op("subtract", op("multiply", p, m), new)))
    random = np.random.default_rng(0)
    gradient, moment, weight = (random.normal(size=n).astype(np.float32) for _ in range(3))
    expected = [moment * np.float32(0.5) + gradient, weight * moment - (moment * np.float32(0.5) + gradient)]
    arrays = [gradient, moment, weight, moment, weight]
    run(Nest((), (), (LaneLoop("i", n, stores=stores),)), buffers_of(arrays), arrays)
    np.testing.assert_array_equal([moment, weight], expected)


def test_what_reads_a_buffer_after_a_store_into_it_sees_what_was_stored():
    n = 37
    x = Load(INT64, 0, along())
    doubled = op("add", x, x)
    loop = LaneLoop(
        "i",
        n,
        stores=(Store(0, along(), doubled), Store(1, along(), doubled)),
        accumulates=(Accumulate("s", "sum", x),),
    )
    after = LaneLoop("j", 1, stores=(Store(2, Affine(0), Local(INT64, "s")),))
    _, twice, total = agree(Nest((), (), (loop, after)), [np.arange(n), np.zeros(n, np.int64), np.zeros(1, np.int64)])
    assert twice.tolist() == list(range(0, 4 * n, 4))
    assert total[0] == n * (n - 1)


def test_a_serial_loop_reads_again_what_it_stores():
    rows, columns = 5, 21
    x = Load(FLOAT32, 0, Affine(0, (("i", 1), ("r", columns))))
    serial = SerialLoop(("r",), (rows,), (), (Store(1, along(), op("add", Load(FLOAT32, 1, along()), x)),))
    values = np.random.default_rng(0).normal(size=rows * columns).astype(np.float32)
    agree(Nest((), (), (LaneLoop("i", columns, (serial,)),)), [values, np.ones(columns, np.float32)])


def test_accumulations_of_one_serial_loop_see_each_other_as_they_were():
    a = Accumulate("a", "sum", op("add", Local(INT64, "b"), Const(INT64, 1)))
    b = Accumulate("b", "sum", op("add", Local(INT64, "a"), Const(INT64, 2)))
    serial = SerialLoop(("k",), (5,), (a, b))
    stores = (Store(0, along(), Local(INT64, "a")), Store(1, along(), Local(INT64, "b")))
    agree(Nest((), (), (LaneLoop("i", 20, (serial,), stores),)), [np.zeros(20, np.int64), np.zeros(20, np.int64)])


def test_a_later_loop_sees_what_an_earlier_loop_of_its_point_stored():
    n = 33
    first = LaneLoop("i", n, stores=(Store(1, along(), op("add", Load(INT64, 0, along()), Const(INT64, 7))),))
    ahead = Load(INT64, 1, Affine(n - 1, (("i", -1),)))
    same = Load(INT64, 1, Affine(4))
    second = LaneLoop("i", n, stores=(Store(2, along(), op("add", ahead, same)),))
    agree(Nest((), (), (first, second)), [np.arange(n), np.zeros(n, np.int64), np.zeros(n, np.int64)])


def test_a_value_used_twice_at_every_depth_is_written_once():
    value = Load(FLOAT32, 0, along())
    for _ in range(60):
        value = op("add", value, value)
    code = code_of(elementwise(40, value), buffers_of([np.zeros(40, np.float32)] * 2))
    assert code.text.count("fadd") == 2 * 60  # once for whole groups of lanes, once for the tail


def test_the_code_depends_on_structure_and_not_on_sizes_or_buffers():
    def code(rows, columns, first=0):
        nest = column_nest(rows, columns)
        return code_of(nest, buffers_of([np.zeros(rows * columns, np.float32), np.zeros(columns, np.float32)]))

    assert code(10, 40).name == code(3, 400).name
    assert code(10, 40).params != code(3, 400).params
    x = np.zeros(9, np.float32)
    one = code_of(elementwise(9, Load(FLOAT32, 0, along())), buffers_of([x, x, x]))
    other = code_of(elementwise(9, Load(FLOAT32, 2, along())), buffers_of([x, x, x]))
    assert one.name == other.name
    assert one.params != other.params
    strided = code_of(elementwise(9, Load(FLOAT32, 0, along(2))), buffers_of([np.zeros(18, np.float32), x]))
    assert strided.name != one.name


def test_what_the_vocabulary_lacks_is_refused_by_name():
    x = np.zeros(4, np.int64)
    with pytest.raises(GraphError, match="'divide' has no meaning for int64"):
        code_of(elementwise(4, op("divide", Load(INT64, 0, along()), Load(INT64, 0, along()))), buffers_of([x, x]))
    with pytest.raises(GraphError, match="holds int64 but is read as float32"):
        code_of(elementwise(4, Load(FLOAT32, 0, along())), buffers_of([x, x]))
    with pytest.raises(GraphError, match="holds int64 but float32 is stored"):
        code_of(elementwise(4, Const(FLOAT32, 1.0)), buffers_of([x, x]))
    with pytest.raises(GraphError, match="local 'nobody'"):
        code_of(elementwise(4, Local(INT64, "nobody")), buffers_of([x, x]))
    with pytest.raises(GraphError, match="depends on \\['elsewhere'\\]"):
        code_of(elementwise(4, Load(INT64, 0, along(1, 0, "elsewhere"))), buffers_of([x, x]))


@needs_mprotect
@pytest.mark.parametrize("at_end", (True, False))
@pytest.mark.parametrize("dtype", (FLOAT32, FLOAT64, UINT8, BOOL), ids=str)
def test_nothing_outside_a_buffer_is_read_or_written_at_any_size(dtype, at_end):
    source, target = Guarded(SIZES_GUARDED[-1] * dtype.itemsize), Guarded(SIZES_GUARDED[-1] * dtype.itemsize)
    for n in SIZES_GUARDED:
        x, y = source.array(n, dtype, at_end), target.array(n, dtype, at_end)
        backwards = Affine(n - 1, (("i", -1),))
        shifted = Gather(dtype, 0, op("subtract", variable("i"), Const(INT64, 3)), n)
        plain = Load(dtype, 0, along())
        hidden = Load(dtype, 0, along(1, 2), op("less", variable("i"), Const(INT64, n - 2)))
        for value, at in (
            (plain, along()),
            (Load(dtype, 0, backwards), backwards),
            (shifted, along()),
            (hidden, along()),
        ):
            if n == 0 and value is not plain:
                continue  # a position before an empty buffer is none
            nest = elementwise(n, value, at=at)
            x[:] = numbers(dtype, n, n)
            expected = [x.copy(), np.zeros(n, dtype)]
            Evaluation(nest, expected).run()
            run(nest, buffers_of([x, y]), [x, y], addresses=[x.ctypes.data, y.ctypes.data])
            np.testing.assert_array_equal(y, expected[1])


def test_the_floating_point_control_register_stays_as_it_was():
    """A denormal result afterwards shows that nothing was set to flush to zero, a half that rounding is to even."""
    x = numbers(FLOAT32, 300)
    value = op("erf", op("pow", op("exp", Load(FLOAT32, 0, along())), op("sin", Load(FLOAT32, 0, along()))))
    agree_free(elementwise(300, value), [x, np.zeros_like(x)])
    assert np.float32(1e-38) * np.float32(0.01) > 0
    assert np.rint(np.float32(2.5)) == 2


def guarded_rows(rows, columns, otherwise=-1):
    """out[i, j] = x[rows[i], j] where rows[i] is no negative number, as gathers of whole rows are lowered."""
    row = Load(INT64, 1, along(1, 0, "g"))
    guard = op("greater_equal", row, Const(INT64, 0))
    position = op("add", op("multiply", row, Const(INT64, columns)), variable("v"))
    at = op("where", guard, position, Const(INT64, otherwise))
    store = Store(2, Affine(0, (("g", columns), ("v", 1))), Gather(FLOAT32, 0, at, 7 * columns, other=-5.0))
    return Nest(("g",), (rows,), (LaneLoop("v", columns, stores=(store,)),))


@pytest.mark.parametrize("columns", (1, 15, 16, 33, 784))
def test_rows_behind_a_guard_are_read_side_by_side(columns):
    x = np.random.default_rng(0).standard_normal(7 * columns).astype(np.float32)
    rows = np.array([3, -1, 6, 0, -7, 5], np.int64)
    arrays = [x, rows, np.full(6 * columns, np.nan, np.float32)]
    nest = guarded_rows(len(rows), columns)
    assert "masked.gather" not in code_of(nest, buffers_of(arrays)).text
    out = agree(nest, arrays)[2].reshape(6, columns)
    np.testing.assert_array_equal(out, np.where((rows >= 0)[:, None], x.reshape(7, columns)[rows.clip(0)], -5.0))


def test_a_guard_with_a_position_behind_it_that_the_buffer_has_is_none():
    arrays = [np.arange(14, dtype=np.float32), np.array([1, -1], np.int64), np.zeros(4, np.float32)]
    np.testing.assert_array_equal(agree(guarded_rows(2, 2, otherwise=9), arrays)[2], [2, 3, 9, 9])
