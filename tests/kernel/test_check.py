"""An illegal program is refused, and the statement and the rule are named."""

import numpy as np
import pytest

from chainrule.errors import GraphError
from chainrule.kernel import (
    Accumulate,
    Affine,
    Buffer,
    Const,
    Gate,
    Gemm,
    LaneLoop,
    Load,
    Local,
    Matrix,
    Moving,
    Nest,
    Op,
    Program,
    Repeat,
    Rows,
    Store,
    Together,
)
from chainrule.kernel.check import check
from chainrule.spec import BOOL, FLOAT32, INT64

BUFFERS = (
    Buffer(8, FLOAT32, "input"), Buffer(8, FLOAT32, "output"), Buffer(8, FLOAT32, "scratch"),
    Buffer(1, BOOL, "scratch"), Buffer(8, INT64, "constant", values=np.zeros(8, np.int64)),
)  # fmt: skip
AT = Affine(0, (("v", 1),))
READ = Load(FLOAT32, 0, AT)


def program(statement):
    return Program(BUFFERS, (statement,), (0,), (1,))


def storing(store, extent=8):
    return Nest((), (), (LaneLoop("v", extent, (), (store,)),))


def test_a_legal_program_is_given_back():
    legal = program(storing(Store(1, AT, READ)))
    assert check(legal, "a test") is legal


@pytest.mark.parametrize(
    "statement, words",
    [
        (storing(Store(1, AT, READ), extent=9), "positions 0 to 8 of buffer"),
        (storing(Store(1, Affine(-1, (("v", 1),)), READ)), "positions -1 to 6"),
        (storing(Store(1, AT, Load(FLOAT32, 0, Affine(4, (("v", 1),))))), "positions 4 to 11 of buffer 0"),
        (storing(Store(0, AT, READ)), "is an input, and is written"),
        (storing(Store(4, AT, Const(INT64, 1))), "is a constant, and is written"),
        (storing(Store(9, AT, READ)), "there is no buffer 9"),
        (storing(Store(1, AT, Local(FLOAT32, "t"))), "local t is read before it is made"),
        (storing(Store(1, AT, Load(FLOAT32, 0, Affine(0, (("w", 1),))))), "loop variable w"),
        (storing(Store(1, AT, Op(FLOAT32, "convolve", (READ,)))), "not of the closed list"),
        (storing(Store(1, AT, Op(FLOAT32, "add", (READ, Const(INT64, 1))))), "mixes"),
        (
            Nest((), (), (LaneLoop("v", 8, (), (), (Accumulate("t", "sum", READ),)),) * 2),
            "local t is made twice",
        ),
        (Gate(2), "not bool"),
        (Gemm(2, 3, 4, Matrix(0, 0, 4, 1), Matrix(0, 0, 3, 1), Matrix(1, 0, 3, 1)), "4 x 3 ends at 11 of buffer 0"),
        (Gemm(2, 2, 2, Matrix(4, 0, 2, 1), Matrix(0, 0, 2, 1), Matrix(1, 0, 2, 1)), "one floating dtype"),
    ],
)
def test_an_illegal_program_is_named(statement, words):
    with pytest.raises(GraphError, match=words) as error:
        check(program(statement), "a test")
    assert "a test broke statement 0" in str(error.value)


def test_a_load_that_a_predicate_guards_may_point_outside():
    inside = Op(BOOL, "less", (Const(INT64, 1), Const(INT64, 0)))
    guarded = Load(FLOAT32, 0, Affine(100, (("v", 1),)), inside)
    check(program(storing(Store(1, AT, guarded))), "a test")


def copying(source, target, at=AT, extent=8):
    return Nest((), (), (LaneLoop("v", extent, (), (Store(target, at, Load(FLOAT32, source, at)),)),))


def test_rows_that_meet_in_a_buffer_that_is_written_are_refused():
    backwards = Affine(7, (("v", -1),))
    check(program(Rows(4, (copying(0, 2), copying(2, 1)))), "test")
    with pytest.raises(GraphError, match=r"rows meet in buffer [12], which is written among them"):
        check(program(Rows(4, (copying(0, 2), copying(2, 1, backwards)))), "test")


def test_points_that_cannot_be_dealt_out_to_rows_are_refused():
    with pytest.raises(GraphError, match="cannot be dealt out to 3 rows"):
        check(program(Rows(3, (copying(0, 1),))), "test")


def test_statements_at_once_of_which_one_reads_what_another_writes_are_refused():
    check(program(Together((copying(0, 1), copying(0, 2)))), "test")
    with pytest.raises(GraphError, match="run at once touch what one of them writes"):
        check(program(Together((copying(0, 2), copying(2, 1)))), "test")


ROW = Buffer(4, FLOAT32, "row")
OTHER_ROW = Buffer(4, FLOAT32, "row")
ALONG = Affine(0, (("v", 1),))


def repeated(moving, *statements, turns=2):
    """Statements over the buffers of the other tests, then 5 and 6: rows of 4."""
    return Program((*BUFFERS, ROW, OTHER_ROW), (Repeat(turns, moving, statements),), (0,), (1,))


def copied(from_, to):
    return storing(Store(to, ALONG, Load(FLOAT32, from_, ALONG)), extent=4)


def test_rows_that_stay_inside_are_legal():
    legal = repeated((Moving(5, 0, 4, -4), Moving(6, 1, 0, 4)), copied(5, 6))
    assert check(legal, "a test") is legal
    overlapping_reads = repeated((Moving(5, 0, 0, 2), Moving(6, 1, 0, 4)), copied(5, 6))
    assert check(overlapping_reads, "a test") is overlapping_reads


@pytest.mark.parametrize(
    "moving, statement, words",
    [
        ((Moving(5, 0, 0, 5), Moving(6, 1, 0, 4)), copied(5, 6), "rows of 4 begin at 0 to 5 of buffer 0, which has 8"),
        ((Moving(5, 0, 3, -4), Moving(6, 1, 0, 4)), copied(5, 6), "begin at -1 to 3 of buffer 0"),
        ((Moving(5, 1, 0, 4), Moving(6, 0, 0, 4)), copied(5, 6), "a row of buffer 0 is written"),
        ((Moving(5, 1, 0, 4), Moving(6, 1, 0, 4)), copied(5, 6), "buffer 1 is written row by row and touched"),
        ((Moving(6, 1, 0, 4),), copied(1, 6), "buffer 1 is written row by row and touched"),
        ((Moving(5, 0, 0, 4), Moving(6, 1, 0, 2)), copied(5, 6), "rows of 4 of buffer 1 are written 2 apart"),
        ((Moving(2, 0, 0, 4),), copied(0, 2), "buffer 2, scratch of float32, moves along 0"),
        ((Moving(5, 4, 0, 4),), copied(5, 2), "buffer 5, row of float32, moves along 4, of int64"),
        ((), Gate(3), "a gate stands among statements that are repeated"),
        ((Moving(5, 0, 0, 4),), storing(Store(2, ALONG, Load(FLOAT32, 5, ALONG)), extent=5), "positions 0 to 4 of"),
    ],
)  # fmt: skip
def test_an_illegal_loop_is_refused(moving, statement, words):
    with pytest.raises(GraphError, match=f"a test broke statement 0 of the program: .*{words}"):
        check(repeated(moving, statement), "a test")
