"""Preprocess: fitted on the training part only, plain data, and strict about names."""

import json

import numpy as np
import pytest

from chainrule import data
from chainrule.errors import ArgumentError, ChainruleWarning, DataError, ShapeError

CSV = "age,city,owner,price\n" + "".join(
    f"{20 + i},{['Rome', 'Bern', 'Oslo'][i % 3]},{['true', 'false'][i % 2]},{1000.5 + 10 * i}\n" for i in range(30)
)


@pytest.fixture
def houses(tmp_path):
    """A CSV of numbers, words and truth values with a numeric target."""
    path = tmp_path / "houses.csv"
    path.write_text(CSV)
    return path


def test_columns_become_named_features(houses):
    ready = data.prepare(data.read(houses), target="price")
    assert ready.features == ("age", "city=Bern", "city=Oslo", "city=Rome", "owner")
    assert ready.task == "regression" and ready.outputs == 1 and ready.y.shape == (24, 1)
    assert np.array_equal(ready.x[:, 1:4].sum(axis=1), np.ones(24))


def test_statistics_come_from_the_training_part_only(houses):
    ready = data.prepare(data.read(houses), target="price")
    assert abs(ready.x[:, 0].mean()) < 1e-6 and abs(ready.x[:, 0].std() - 1) < 1e-6
    assert abs(ready.validation_x[:, 0].mean()) > 1e-3
    price = ready.target.invert(ready.y)[:, 0]
    age = ready.x[:, 0] * ready.preprocess.inputs[0].std[0] + ready.preprocess.inputs[0].mean[0]
    assert np.allclose(price, 1000.5 + 10 * (age - 20), atol=1e-3)


def test_the_description_survives_json_and_treats_a_new_file_alike(houses, tmp_path):
    ready = data.prepare(data.read(houses), target="price", validation=None)
    back = data.Preprocess.from_dict(json.loads(json.dumps(ready.preprocess.to_dict())))
    assert back == ready.preprocess
    assert np.array_equal(back.apply(data.read(houses, like=back)), ready.x)
    assert np.array_equal(back.targets(data.read(houses, like=back)), ready.y)
    lines = [line.split(",") for line in CSV.splitlines()]
    (tmp_path / "new.csv").write_text("\n".join(",".join((c, o, a)) for a, c, o, _ in lines) + "\n")
    assert np.array_equal(back.apply(data.read(tmp_path / "new.csv", like=back)), ready.x)


def test_missing_unexpected_and_renamed_columns_are_named(houses, tmp_path):
    fitted = data.prepare(data.read(houses), target="price").preprocess
    path = tmp_path / "new.csv"
    path.write_text("Age,city,owner\n1,Rome,true\n")
    with pytest.raises(DataError, match=r"no column 'age' and has 'Age', which training.*was it renamed to 'Age'"):
        fitted.apply(data.read(path))
    path.write_text("age,city,owner,rooms\n1,Rome,true,3\n")
    with pytest.raises(DataError, match="has 'rooms', which training did not have"):
        fitted.apply(data.read(path))
    path.write_text("age,city,owner\nold,Rome,true\n")
    with pytest.raises(DataError, match=r"column 'age' is text \(first 'old'\); in training it was numeric"):
        fitted.apply(data.read(path))
    path.write_text("age,city,owner\n,Rome,true\n")
    with pytest.raises(DataError, match=r"'age' 1 \(first: new\.csv:2\); training had no rule"):
        fitted.apply(data.read(path))
    with pytest.raises(ArgumentError, match="pass a dataframe or a Table"):
        fitted.apply(np.ones((3, 3)))


def test_words_that_training_did_not_have_warn_and_become_zeros(houses, tmp_path):
    fitted = data.prepare(data.read(houses), target="price").preprocess
    path = tmp_path / "new.csv"
    path.write_text("age,city,owner\n30,Rome,true\n31,Paris,false\n")
    with pytest.warns(ChainruleWarning, match=r"'city' has words that training did not have \('Paris'; 1 rows.*csv:3"):
        x = fitted.apply(data.read(path))
    assert x[1, 1:4].tolist() == [0, 0, 0]


def test_text_that_looks_like_numbers_stays_text_for_prediction(tmp_path):
    path = tmp_path / "codes.csv"
    path.write_text("zip,y\n" + "01,a\n02,b\n" * 5)
    fitted = data.prepare(data.read(path, text=["zip"])).preprocess
    path.write_text("zip\n02\n")
    with pytest.raises(DataError, match="read the file with like="):
        fitted.apply(data.read(path))
    assert fitted.apply(data.read(path, like=fitted)).tolist() == [[0, 1]]


@pytest.mark.parametrize("policy, filled", [("mean", 4.0), ("median", 3.0), ("most_frequent", 1.0)])
def test_missing_values_are_filled_by_the_training_parts_rule(tmp_path, policy, filled):
    path = tmp_path / "gaps.csv"
    path.write_text("a,b,y\n1,u,0.5\n1,v,1.5\n5,v,0.25\n9,,1\n,v,2\n")
    ready = data.prepare(data.read(path), validation=None, missing=policy, standardise=False)
    assert ready.x[4, 0] == filled and ready.x[3].tolist() == [9, 0, 1]
    path.write_text("a,b\n,\n")
    assert ready.preprocess.apply(data.read(path, like=ready.preprocess)).tolist() == [[filled, 0, 1]]


def test_missing_words_of_training_are_missing_in_prediction(tmp_path):
    path = tmp_path / "gaps.csv"
    path.write_text("a,y\n1,0.5\n-,1.5\n5,0.25\n9,1\n")
    ready = data.prepare(data.read(path, missing_words=["-"]), validation=None, missing="mean", standardise=False)
    path.write_text("a\n-\n2\n")
    assert ready.preprocess.apply(data.read(path, like=ready.preprocess))[:, 0].tolist() == [5, 2]


def test_a_missing_truth_is_never_made_up(tmp_path):
    path = tmp_path / "gaps.csv"
    path.write_text("a,y\n1,0.5\n2,\n5,0.25\n9,1\n")
    for policy in ("error", "mean"):
        with pytest.raises(DataError, match=r"target 'y' is missing in 1 rows \(first: gaps\.csv:3\).*missing='drop'"):
            data.prepare(data.read(path), missing=policy)
    assert len(data.prepare(data.read(path), missing="drop", validation=None).y) == 3


def test_a_constant_column_becomes_zero_with_one_warning(tmp_path):
    path = tmp_path / "flat.csv"
    path.write_text("a,b,y\n" + "".join(f"0.1,{i},{i % 2}\n" for i in range(10)))
    with pytest.warns(ChainruleWarning, match="column 'a' does not vary") as caught:
        (x, _), (xv, _) = data.load(path)
    assert len(caught) == 1 and not x[:, 0].any() and not xv[:, 0].any()


def test_huge_and_tiny_columns_standardise(tmp_path):
    path = tmp_path / "wide.csv"
    path.write_text("a,b,y\n" + "".join(f"{i}e300,{i}e-300,{i % 2}\n" for i in range(10)))
    (x, _), _ = data.load(path)
    assert np.allclose(x[:, 0], x[:, 1], atol=1e-6) and np.isclose(x[:, 0].std(), 1, atol=1e-6)
    with pytest.raises(DataError, match=r"'a' has 8 values too large for float32 \(first: wide\.csv:3\)"):
        data.load(path, standardise=False)


def test_columns_that_cannot_help_are_refused(tmp_path):
    path = tmp_path / "ids.csv"
    path.write_text("id,a,y\n" + "".join(f"u{i},{i},{i % 2}\n" for i in range(40)))
    with pytest.raises(DataError, match=r"'id' has 32 different words.*ignore=\['id'\]"):
        data.load(path)
    assert data.load(path, ignore=["id"])[0][0].shape == (32, 1)
    with pytest.raises(ArgumentError, match=r"no column 'idd'.*did you mean 'id'|no column 'idd'"):
        data.load(path, ignore=["idd"])
    path.write_text("a,b,y\n,1,0\n,2,1\n,3,0\n,4,1\n")
    with pytest.raises(DataError, match="'a' has no values at all; ignore it"):
        data.load(path, missing="mean", validation=0.5)
    path.write_text("y\n1\n2\n")
    with pytest.raises(DataError, match="no column besides the target"):
        data.load(path)


def test_an_unnamed_target_lists_the_columns(houses):
    with pytest.raises(ArgumentError, match=r"which column is to be predicted.*'age', 'city', 'owner', 'price'"):
        data.load(houses)
    with pytest.raises(ArgumentError, match="outside its 4 columns"):
        data.load(houses, target=4)
    assert data.load(houses, target=-1)[0][1].dtype == np.float32


def test_arguments_out_of_range_are_refused(houses):
    table = data.read(houses)
    for bad, message in (
        ({"missing": "zero"}, "missing is 'zero'"),
        ({"missing": "medain"}, "did you mean 'median'"),
        ({"standardise": 1}, "standardise is 1"),
        ({"task": "classify"}, "task is 'classify'"),
        ({"validation": 1.5}, "validation is 1.5"),
        ({"validation": True}, "validation is True"),
        ({"validation": "rest"}, "validation is 'rest'"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
        ({"target": True}, "target is True"),
    ):
        with pytest.raises(ArgumentError, match=message):
            data.prepare(table, **{"target": "price", **bad})


def test_a_damaged_description_is_refused(houses):
    plain = data.prepare(data.read(houses), target="price").preprocess.to_dict()
    for change, message in (
        ({"format": 9}, "format 9.*upgrade"),
        ({"inputs": 3}, "not the description"),
        ({"extra": 1}, "fields"),
        ({"input_shape": [7]}, "does not hold the 5 features"),
        ({"missing": "guess"}, "missing is 'guess'"),
        ({"inputs": [{**plain["inputs"][0], "mean": [1.0, 2.0]}]}, "2 numbers in mean"),
        ({"inputs": [{**plain["inputs"][0], "std": [float("nan")]}]}, "1 NaN"),
        ({"inputs": [{**plain["inputs"][0], "std": None}]}, "both mean and std"),
    ):
        with pytest.raises((DataError, ArgumentError), match=message):
            data.Preprocess.from_dict({**plain, **change})


def test_an_image_of_another_size_is_refused():
    fitted = data.prepare(data.read("digits")).preprocess
    assert fitted.apply(np.full((2, 64), 16)).tolist() == [[1.0] * 64] * 2
    with pytest.raises(ShapeError, match=r"rows of 'pixel' have shape \(9, 9\); training had \(8, 8\)"):
        fitted.apply(np.ones((2, 9, 9)))
