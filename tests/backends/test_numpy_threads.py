"""NumPy's threads rest for the time of a block, and only for that."""

import pytest

from chainrule.backends.numpy_threads import _openblas, one_numpy_thread


@pytest.fixture
def count():
    found = _openblas()
    if found is None:
        pytest.skip("this NumPy multiplies matrices without OpenBLAS")
    count, limit = found
    before = count()
    limit(2)
    yield count
    limit(before)


def test_numpy_has_one_thread_in_the_block_and_its_own_number_after_it(count):
    with one_numpy_thread():
        assert count() == 1
    assert count() == 2


def test_an_exception_leaves_the_number_as_it_was(count):
    with pytest.raises(ZeroDivisionError), one_numpy_thread():
        raise ZeroDivisionError
    assert count() == 2
