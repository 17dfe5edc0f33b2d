"""NPY and NPZ files: pairs by name, exact sizes, no pickles, no bombs."""

import io
import struct
import warnings
import zipfile

import numpy as np
import pytest

from chainrule import data
from chainrule.errors import ArgumentError, DataError, DTypeError

X = np.arange(40, dtype=np.float64).reshape(20, 2)
Y = np.arange(20) % 2


def npy(array):
    """The bytes of an .npy."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def header(text, version=(1, 0)):
    """An .npy with a header of one's own."""
    raw = text.encode()
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H", len(raw)) + raw


def test_pairs_are_recognised_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", X=X, y=Y)
    np.savez_compressed(tmp_path / "b.npz", x_train=X, y_train=Y, x_test=X[:4], y_test=Y[:4])
    a, b = data.read(tmp_path / "a.npz"), data.read(tmp_path / "b.npz")
    assert a.names == ("x", "y") and a.target == "y" and a.validation is None
    assert b.validation is not None and b.validation.rows == 4
    (x, _), (xv, _) = data.load(tmp_path / "b.npz")
    assert x.shape == (20, 2) and xv.shape == (4, 2) and abs(x.mean()) < 1e-6


def test_other_members_are_columns_and_the_target_is_named(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, width=X[:, 0], city=np.array(["Rome", "Bern"] * 10), price=X[:, 1])
    ready = data.prepare(data.read(path, target="price"))
    assert ready.features == ("width", "city=Bern", "city=Rome") and ready.task == "regression"
    with pytest.raises(ArgumentError, match=r"which column is to be predicted.*'width', 'city', 'price'"):
        data.prepare(data.read(path))
    with pytest.raises(ArgumentError, match="no member 'cost'"):
        data.read(path, target="cost")


def test_a_column_of_an_npy_can_be_the_target(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.asfortranarray(X.astype(">f4")))
    table = data.read(path, target=-1)
    assert table.column("y").values.tolist() == X[:, 1].tolist() and table.column("x").shape == (1,)
    with pytest.raises(ArgumentError, match="outside its 2 columns"):
        data.read(path, target=2)


DAMAGES = {
    "pickle": (npy(np.array([{}], dtype=object)), "pickled Python objects; a pickle can run code"),
    "truncated": (npy(X)[:-1], "cut short.*320 bytes, and 319 follow"),
    "trailing": (npy(X) + b"x", "bytes after its array"),
    "header cut": (npy(X)[:40], "cut short in its header"),
    "version": (header("{}", (99, 0)), "version 99.0"),
    "code": (header("__import__('os').system('true')"), "damaged header"),
    "deep": (header("(" * 5000), "damaged header"),
    "keys": (header("{'descr': '<f8'}"), "damaged header"),
    "negative": (header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}"), "which no array can have"),
    "2^64": (header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**64},)}}"), "which no array can have"),
    "large": (header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**62}, {2**62})}}"), "cut short"),
    "true": (header("{'descr': '<f8', 'fortran_order': False, 'shape': (True,)}"), "which no array can have"),
    "zero": (npy(np.zeros((0, 3))), "is empty"),
    "huge header": (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b" " * 100, "header of 2,147,483,648 bytes"),
    "structured": (npy(np.zeros(2, dtype=[("a", "f4")])), "elements of type"),
    "complex": (npy(np.zeros(2, dtype=complex)), "elements of type"),
    "date": (npy(np.zeros(2, dtype="M8[s]")), "elements of type"),
}


@pytest.mark.parametrize("content, message", DAMAGES.values(), ids=DAMAGES)
def test_a_bad_npy_is_refused_by_name_alone_and_as_a_member(tmp_path, content, message):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DataError, match=f"(?s)a\\.npy.*{message}"):
        data.read(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", npy(X))
        archive.writestr("inner.npy", content)
    with pytest.raises(DataError, match=f"(?s)a\\.npz: member 'inner\\.npy'.*{message}"):
        data.read(tmp_path / "a.npz")


def test_archives_that_cannot_be_meant_are_refused(tmp_path):
    path = tmp_path / "a.npz"

    def write(*members, method=zipfile.ZIP_STORED):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile warns of the duplicate name that is wanted here
            with zipfile.ZipFile(path, "w", method) as archive:
                for name, content in members:
                    archive.writestr(name, content)

    write(("x.npy", npy(X)), ("x.npy", npy(Y)))
    with pytest.raises(DataError, match=r"more than one member called 'x.npy'"):
        data.read(path)
    write(("../x.txt", b"text"))
    with pytest.raises(DataError, match=r"member '../x.txt' is not an .npy array"):
        data.read(path)
    write(("model/data.pkl", b"\x80\x02"))
    with pytest.raises(DataError, match="PyTorch pickle"):
        data.read(path)
    write(("xl/workbook.xml", b"<a/>"))
    with pytest.raises(DataError, match="Excel"):
        data.read(path)
    write()
    with pytest.raises(DataError, match="without members"):
        data.read(path)
    write(("x.npy", npy(X)), ("y.npy", npy(Y[:5])))
    with pytest.raises(DataError, match="'x' 20, 'y' 5"):
        data.read(path)
    write(("x.npy", npy(np.float64(3.0))), ("y.npy", npy(Y)))
    with pytest.raises(DataError, match="member 'x' is a single value"):
        data.read(path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "a.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x.npy", "w") as member,
    ):
        for _ in range(270):
            member.write(bytes(2**20))
    with pytest.raises(DataError, match="zip bomb"):
        data.read(path)


def test_bit_flips_are_found(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=X, y=Y)
    whole = path.read_bytes()
    wrong = 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            table = data.read(path)
        except (DataError, ArgumentError, DTypeError):
            continue
        # Bytes such as the archive's dates carry no data.
        wrong += not np.array_equal(table.columns[0].values, X)
    assert wrong == 0
