"""Checkpoints: whatever happens to the file, what loads is what was saved, or an error that names it."""

import json
import os
import re
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from chainrule.errors import ArgumentError, CheckpointError, DTypeError
from chainrule.record import load_checkpoint, load_header, save_checkpoint

HEADER = {"step": 7, "epoch": 1, "position": 64, "preprocess": {"mean": [0.1, 1e-300], "names": ["é", '"', "\\"]}}


def some_arrays():
    draw = np.random.default_rng(0)
    return {
        "1.weight": draw.standard_normal((5, 3)).astype("float32"),
        "0.weight": draw.standard_normal((3, 2)),
        "step": np.array(7, np.int64),
        "mask": np.array([True, False, True]),
    }


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, some_arrays(), HEADER)
    return path


def assert_same(loaded, arrays):
    assert list(loaded) == list(arrays)
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].shape == array.shape
        assert loaded[name].tobytes() == np.asarray(array, order="C").tobytes()


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_arrays_order_and_header_come_back(saved):
    arrays, header = load_checkpoint(saved)
    assert_same(arrays, some_arrays())
    assert header == HEADER
    assert load_header(saved) == HEADER
    arrays["mask"][0] = False  # fresh memory, free to be trained on


def test_safetensors_itself_reads_the_same(saved):
    theirs = load_file(saved)
    for name, array in some_arrays().items():
        assert np.array_equal(theirs[name], array)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4).T,
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(24.0)[::-2],
        np.arange(24.0).reshape(2, 3, 4)[:, ::2, 1:3],
        np.broadcast_to(np.float32(3), (4, 5)),
        np.zeros((0, 3)),
        np.zeros(()),
        np.float32(2.5),
        np.array([np.nan, -0.0, np.inf, 5e-324]),
        np.array([1 + 2j], np.complex64),
    ],
    ids=lambda array: f"{array.shape}{array.strides}",
)
def test_any_memory_layout_round_trips_bit_for_bit(tmp_path, array):
    save_checkpoint(tmp_path / "a", {"x": array}, {})
    assert_same(load_checkpoint(tmp_path / "a")[0], {"x": array})


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
@pytest.mark.parametrize("order", "<>")
def test_any_number_type_and_byte_order_keeps_its_values(tmp_path, kind, order):
    array = np.array([[0, 1], [100, 127]], np.dtype(kind).newbyteorder(order))
    save_checkpoint(tmp_path / "a", {"x": array}, {})
    loaded = load_checkpoint(tmp_path / "a")[0]["x"]
    assert np.array_equal(loaded, array)
    assert loaded.dtype == array.dtype.newbyteorder("<")


def test_nothing_at_all_round_trips(tmp_path):
    save_checkpoint(tmp_path / "a", {}, {})
    assert load_checkpoint(tmp_path / "a") == ({}, {})


def test_saving_leaves_the_callers_arrays_alone(tmp_path):
    array = np.arange(4.0)
    array.flags.writeable = False
    save_checkpoint(tmp_path / "a", {"x": array}, {})
    assert array.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.array([1, "a"], object), "dtype object"),
        (np.array(["a"]), "dtype <U1"),
        (np.array(["2020-01-01"], "M8[D]"), "datetime64"),
        (np.zeros(2, np.longdouble), "dtype"),
        (np.ma.masked_array([1.0, 2.0], [0, 1]), "masked"),
        ([1.0], "list"),
    ],
)
def test_arrays_without_a_fixed_layout_are_refused_by_name(tmp_path, array, says):
    with pytest.raises(DTypeError, match=says) as caught:
        save_checkpoint(tmp_path / "a", {"0.weight": array}, {})
    assert "0.weight" in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({"a": {"b": [1, np.float32(1)]}}, r"header\['a'\]\['b'\]\[1\] is a float32"),
        ({"a": {1: 2}}, "key 1"),
        ({"f": print}, "builtin_function"),
    ],
)
def test_a_header_that_is_not_plain_data_is_refused_with_the_place(tmp_path, header, says):
    with pytest.raises(ArgumentError, match=says):
        save_checkpoint(tmp_path / "a", {}, header)


def test_a_header_that_contains_itself_is_refused(tmp_path):
    loop: dict = {}
    loop["again"] = loop
    with pytest.raises(ArgumentError, match="deep"):
        save_checkpoint(tmp_path / "a", {}, loop)


@pytest.mark.parametrize("name", ["", "__metadata__", "x" * 1001, "\ud800", 3])
def test_names_that_a_file_cannot_hold_are_refused(tmp_path, name):
    with pytest.raises(ArgumentError, match="name"):
        save_checkpoint(tmp_path / "a", {name: np.zeros(1)}, {})


@pytest.mark.parametrize("name", ["../../etc/x", "/abs", "a\0b", "é\n", '"chainrule.digest":"' + "0" * 32 + '"'])
def test_names_are_keys_and_never_paths(tmp_path, name):
    save_checkpoint(tmp_path / "a", {name: np.ones(2)}, {name: name})
    arrays, header = load_checkpoint(tmp_path / "a")
    assert list(arrays) == [name]
    assert header == {name: name}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_every_flipped_bit_of_a_small_file_is_refused(tmp_path):
    path = tmp_path / "a"
    save_checkpoint(path, {"é": np.arange(3, dtype="i1"), "w": np.ones((2, 1), "f4")}, {"step": 1, "ü": [1.5]})
    content = path.read_bytes()
    flipped = tmp_path / "b"
    silent = []
    for bit in range(len(content) * 8):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        flipped.write_bytes(damaged)
        try:
            load_checkpoint(flipped)
        except CheckpointError as error:
            assert str(flipped) in str(error)
        else:
            silent.append(bit)
    assert silent == []


@settings(max_examples=200, deadline=None)
@given(bit=st.integers(0, 10**9))
def test_random_flipped_bits_are_refused(tmp_path_factory, bit):
    path = tmp_path_factory.getbasetemp() / "flip.safetensors"
    save_damaged = path.with_suffix(".damaged")
    if not path.exists():
        save_checkpoint(path, {"0.weight": np.random.default_rng(1).standard_normal((40, 50))}, HEADER)
    content = bytearray(path.read_bytes())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    save_damaged.write_bytes(content)
    refusal(save_damaged)


def test_every_truncation_is_refused_with_the_bytes_found(saved, tmp_path):
    content = saved.read_bytes()
    cut = tmp_path / "cut"
    for length in range(len(content)):
        cut.write_bytes(content[:length])
        assert f"has {length:,} " in refusal(cut)
    cut.write_bytes(content[:-1])
    assert f"has {len(content) - 1:,} of {len(content):,} bytes" in refusal(cut)
    assert "array '" in refusal(cut)


def test_zeroed_sectors_are_refused(tmp_path):
    path = tmp_path / "a"
    save_checkpoint(path, {"w": np.random.default_rng(0).standard_normal(1000)}, HEADER)
    content = path.read_bytes()
    for start in range(0, len(content), 512):
        path.write_bytes(content[:start] + bytes(len(content[start : start + 512])) + content[start + 512 :])
        refusal(path)


def test_bytes_behind_the_end_are_refused(saved):
    saved.write_bytes(saved.read_bytes() + b"PK")
    assert "2 more" in refusal(saved)


def test_damage_names_the_array(saved):
    content = bytearray(saved.read_bytes())
    content[-1] ^= 1
    saved.write_bytes(content)
    assert "array 'mask' (bool[3])" in refusal(saved)


def test_two_arrays_of_one_type_and_shape_cannot_change_places(tmp_path):
    path = tmp_path / "a"
    save_checkpoint(path, {"a": np.ones(2), "b": np.zeros(2)}, {})
    content = path.read_bytes()
    path.write_bytes(content[:-32] + content[-16:] + content[-32:-16])
    assert "array 'a'" in refusal(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "0 bytes"),
        (b"PK\x03\x04" + bytes(100), "zip archive"),
        (b"\x80\x04" + bytes(8), "pickle"),
        (b"\x93NUMPY\x01\0" + bytes(100), ".npy"),
        (bytes(1000), "of another format"),
        (b"\xff" * 1000, "of another format"),
        (struct.pack("<Q", 10) + b"[1,2,3,4,5]", "of another format"),
    ],
)
def test_other_formats_are_named(tmp_path, content, says):
    (tmp_path / "a").write_bytes(content)
    assert says in refusal(tmp_path / "a")


def forged(path, change):
    """A file whose table is changed by hand and whose digest is made to fit: what malice could write."""
    from chainrule.record.checkpoint import _hexdigest

    save_checkpoint(path, {"a": np.ones(2), "b": np.ones(3, "f4")}, {"step": 1})
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    table = json.loads(content[8 : 8 + length])
    table["__metadata__"]["chainrule.digest"] = "0" * 32
    text = change(table)
    text = (text if isinstance(text, str) else json.dumps(table, separators=(",", ":"))).encode()
    text = struct.pack("<Q", len(text)) + text
    signed = text.replace(b'digest":"' + b"0" * 32, b'digest":"' + _hexdigest(text).encode())
    path.write_bytes(signed + content[8 + length :])


def test_a_forged_file_that_changes_nothing_loads(tmp_path):
    forged(tmp_path / "a", lambda table: None)
    assert load_checkpoint(tmp_path / "a")[1] == {"step": 1}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t["a"].update(data_offsets=[8, 24]), "starts at byte"),
        (lambda t: t["a"].update(shape=[2**40], data_offsets=[0, 2**43]), "starts at byte|cut short"),
        (lambda t: t["b"].update(shape=[2**61], data_offsets=[16, 16 + 2**63]), "claims shape"),
        (lambda t: t["b"].update(shape=[2**40], data_offsets=[16, 16 + 2**42]), "cut short"),
        (lambda t: t["a"].update(shape=[-2]), "claims shape"),
        (lambda t: t["a"].update(shape=[True, 2]), "claims shape"),
        (lambda t: t["a"].update(shape=[1] * 300 + [2]), "claims shape"),
        (lambda t: t["a"].update(shape=[3]), "shape does not fill"),
        (lambda t: t["a"].update(dtype="O"), "entry of array 'a'"),
        (lambda t: t["a"].update(dtype=[]), "entry of array 'a'"),
        (lambda t: t["a"].update(extra=1), "entry of array 'a'"),
        (lambda t: t.update(c=5), "entry of array 'c'"),
        (lambda t: t.update(c={"dtype": "F32", "shape": [0], "data_offsets": [28, 28]}), "different arrays"),
        (lambda t: t.update({"x" * 2000: t.pop("a")}), "2,000 characters"),
        (lambda t: t["__metadata__"].update({"chainrule.header": "[" * 200_000}), "deep|not JSON"),
        (lambda t: t["__metadata__"].update({"chainrule.header": "[]"}), "not a JSON object"),
        (lambda t: t["__metadata__"].update({"chainrule.arrays": '{"a":"0","a":"1"}'}), "twice"),
        (lambda t: t["__metadata__"].update({"chainrule.header": 5}), "metadata"),
        (lambda t: t["__metadata__"].update({"chainrule.format": "0"}), "metadata"),
        (lambda t: t["__metadata__"].pop("chainrule.arrays") and None, "metadata"),
        (lambda t: t["__metadata__"].update({"other": "1"}), "metadata"),
        (lambda t: '{"a":' * 200_000, "deep|not JSON"),
        (lambda t: '{"a":1,"a":2}', "twice"),
        (lambda t: '{"a":' + "9" * 5000 + "}", "not JSON"),
        (lambda t: '{"__metadata__":[]}', "did not write"),
        (lambda t: "{\udcff}".encode("utf-8", "surrogateescape").decode("latin-1"), "not JSON"),
    ],
)
def test_forged_tables_are_refused_before_anything_is_allocated(tmp_path, change, says):
    forged(tmp_path / "a", change)
    assert re.search(says, refusal(tmp_path / "a"))


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_random_tables_give_no_other_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "random"
    text = ("{" + text).encode("utf-8", "replace")
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(40))
    refusal(path)


def test_a_newer_format_says_upgrade(tmp_path):
    change = {"chainrule.format": "2", "chainrule.version": "9.1"}
    forged(tmp_path / "a", lambda table: table["__metadata__"].update(change))
    assert "newer chainrule ('9.1', format 2)" in refusal(tmp_path / "a")
    assert "Upgrade" in refusal(tmp_path / "a")


def test_a_foreign_safetensors_file_says_how_to_take_its_arrays(tmp_path):
    save_file({"w": np.ones(3)}, tmp_path / "a.safetensors", metadata={"format": "pt"})
    assert "load_state_dict" in refusal(tmp_path / "a.safetensors")


def test_missing_files_directories_and_pipes_are_refused_at_once(tmp_path):
    assert "No such file" in refusal(tmp_path / "none")
    assert "regular" in refusal(tmp_path) or os.name == "nt"
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert "regular" in refusal(tmp_path / "pipe")
