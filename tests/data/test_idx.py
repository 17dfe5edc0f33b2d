"""IDX files, plain and gzipped, with their labels; each damage is found and named."""

import gzip
import struct

import numpy as np
import pytest

from chainrule import data
from chainrule.errors import ArgumentError, DataError


def idx(array, code=0x08):
    """The bytes of an IDX file."""
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


IMAGES = np.arange(20 * 3 * 4, dtype=np.uint8).reshape(20, 3, 4)
LABELS = (np.arange(20) % 4).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """A folder like Fashion-MNIST's: a gzipped training pair and a second pair."""
    for part, images, labels in (("train", IMAGES, LABELS), ("t10k", IMAGES[:8], LABELS[:8])):
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return tmp_path


def test_images_find_their_labels_and_stay_bytes(folder):
    table = data.read(folder / "train-images-idx3-ubyte.gz")
    assert np.array_equal(table.column("image").values, IMAGES) and table.column("image").values.dtype == np.uint8
    assert np.array_equal(table.column("label").values, LABELS) and table.validation is None


def test_a_folder_gives_its_second_pair_as_validation(folder):
    (x, y), (xv, yv) = data.load(folder)
    assert x.shape == (20, 12) and x.dtype == np.float32 and y.dtype == np.int64 and xv.shape == (8, 12)
    assert np.array_equal(x, IMAGES.reshape(20, 12).astype(np.float32) / np.float32(255))
    assert np.array_equal(yv, LABELS[:8])
    ready = data.prepare(data.read(folder), flat=False)
    assert ready.input_shape == (3, 4) and ready.preprocess.inputs[0].scale == 255.0


def test_plain_files_with_dots_in_their_names_pair_too(tmp_path):
    (tmp_path / "train-images.idx3-ubyte").write_bytes(idx(IMAGES))
    (tmp_path / "train-labels.idx1-ubyte").write_bytes(idx(LABELS))
    assert data.read(tmp_path / "train-images.idx3-ubyte").target == "label"


@pytest.mark.parametrize("code, dtype", [(0x09, "i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")])
def test_every_type_is_read_in_this_machines_order(tmp_path, code, dtype):
    path = tmp_path / "a-images-idx2"
    path.write_bytes(idx(np.array([[1, -2], [3, 4]], dtype=dtype), code))
    values = data.read(path).column("image").values
    assert values.tolist() == [[1, -2], [3, 4]] and values.dtype.isnative


PACKED = gzip.compress(idx(IMAGES))
DAMAGES = {
    "truncated": (idx(IMAGES)[:-1], "cut short"),
    "trailing": (idx(IMAGES) + b"x", "bytes after its 240 declared"),
    "huge": (bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1), "cannot hold them"),
    "empty": (bytes([0, 0, 8, 3]) + struct.pack(">3I", 0, 3, 4), "is empty"),
    "header": (idx(IMAGES)[:9], "cut short in its header"),
    "type": (b"\0\0\x0a\x03" + bytes(100), "not an IDX file"),
    "dimensions": (b"\0\0\x08\x63" + bytes(100), "99 dimensions"),
    "gzip truncated": (PACKED[:-12], "cut short"),
    "gzip without end": (PACKED[:-4], "cut short"),
    "gzip checksum": (PACKED[:-8] + bytes([PACKED[-8] ^ 1]) + PACKED[-7:], "is damaged: .*data check"),
    "gzip trailing": (PACKED + b"junk", "after its gzip stream"),
    "gzip second member": (PACKED + PACKED, "after its gzip stream"),
    "gzip trailing inside": (gzip.compress(idx(IMAGES) + b"x"), "bytes after its 240 declared"),
    "gzip bomb": (gzip.compress(bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**20, 28, 28) + bytes(2**16)), "cannot hold"),
    "gzip of text": (gzip.compress(b"a,b\n1,2\n"), "not an IDX file inside.*gunzip"),
}


@pytest.mark.parametrize("content, message", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_found_and_the_file_is_named(tmp_path, content, message):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"train-images-idx3-ubyte.*{message}"):
        data.read(path)


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    for stop in range(1, len(PACKED)):
        path.write_bytes(PACKED[:stop])
        with pytest.raises(DataError):
            data.read(path)


def test_labels_that_do_not_fit_are_refused(folder):
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS[:-1])))
    with pytest.raises(DataError, match=r"20 images and train-labels-idx1-ubyte.gz 19 labels"):
        data.read(folder)
    with pytest.raises(DataError, match="give the images file"):
        data.read(folder / "train-labels-idx1-ubyte.gz")
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ArgumentError, match="no labels file beside train-images"):
        data.prepare(data.read(folder / "train-images-idx3-ubyte.gz"))


def test_a_folder_without_images_or_with_many_is_explained(tmp_path, folder):
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="folder without IDX images"):
        data.read(tmp_path / "other")
    (folder / "extra-images-idx3-ubyte").write_bytes(idx(IMAGES))
    with pytest.raises(DataError, match="name the one to train on"):
        data.read(folder)
