"""`chainrule data`: what is in a source."""

import struct
from pathlib import Path

import numpy as np

from chainrule import data


def test_the_list_names_every_built_in_set(command):
    ended = command("data", "list")
    assert ended.code == 0
    assert all(name in ended.out for name in data.names())
    assert [d["name"] for d in command("data", "list", "--json").json["data"]] == list(data.names())


def test_digits_are_shown_with_counts_licence_and_pictures(command):
    out = command("data", "show", "digits").out
    assert "1,797 rows" in out and "CC BY 4.0" in out and "0: 178, 1: 182" in out
    assert "██" in out
    assert out.splitlines()[-1] == "next: chainrule train digits"


def test_a_table_is_shown_by_column_with_missing_values_and_ranges(command, houses):
    found = command("data", "show", houses, "--target", "price", "--json").json
    size, city, _, price = found["columns"]
    assert (size["missing"], size["min"], size["max"]) == (12, 30.0, 199.0)
    assert (city["kind"], city["distinct"], city["missing"]) == ("text", 3, 9)
    assert price["mean"] > 100_000 and found["classes"] is None and found["target"] == "price"


def test_without_a_target_the_next_line_asks_for_one(command, houses):
    assert command("data", "show", houses).out.splitlines()[-1].endswith("houses.csv --target COLUMN")


def test_a_column_of_words_as_target_is_counted_by_class(command):
    Path("pets.csv").write_text("weight,kind\n4,cat\n9,dog\n5,cat\n", encoding="utf-8")
    assert command("data", "show", "pets.csv", "--target", "kind", "--json").json["classes"] == {"cat": 2, "dog": 1}


def test_images_are_drawn_as_wide_as_the_terminal(command, monkeypatch):
    images = np.zeros((5, 28, 28), np.uint8)
    images[:, 14:, :] = 255
    header = struct.pack(">BBBB3I", 0, 0, 8, 3, *images.shape)
    Path("train-images-idx3-ubyte").write_bytes(header + images.tobytes())
    Path("train-labels-idx1-ubyte").write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, 5) + bytes(range(5)))
    for columns, count in ((120, 4), (40, 1), (20, 0)):
        monkeypatch.setenv("COLUMNS", str(columns))
        drawn = [line for line in command("data", "show", "train-images-idx3-ubyte").out.splitlines() if "█" in line]
        assert [line.count("█" * 28) for line in drawn] == ([count] * 7 if count else [])


def test_names_that_could_move_the_cursor_are_written_out(command, houses):
    for words in (("data", "show", houses), ("train", houses, "--target", "price", "--missing", "mean", "--epochs", 1)):
        ended = command(*words)
        assert ended.code == 0
        assert "\x1b" not in ended.out + ended.err and "\u202e" not in ended.out + ended.err
    assert "\\x1b[31mrooms\\u202e" in command("data", "show", houses).out


def test_classes_that_could_move_the_cursor_are_written_out(command):
    answers = ("no\u2066", "\x1b[2Jyes")
    rows = "\n".join(f"{i},{answers[i % 2]}" for i in range(40))
    Path("odd.csv").write_text(f"x,answer\n{rows}\n", encoding="utf-8")
    for words in (("data", "show", "odd.csv", "--target", "answer"), ("train", "odd.csv", "--target", "answer")):
        ended = command(*words)
        assert ended.code == 0, ended.err
        assert "\\x1b[2Jyes" in ended.out
        assert "\x1b" not in ended.out + ended.err and "\u2066" not in ended.out + ended.err
