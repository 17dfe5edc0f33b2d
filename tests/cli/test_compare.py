"""`chainrule compare`: two runs side by side on the command line."""


def test_two_runs_are_compared_in_words_and_as_json(command, monkeypatch):
    for name, seed in (("a", 0), ("b", 1), ("c", 0)):
        assert command("train", "moons", "--layers", "8", "--epochs", "2", "--quiet", "--seed", seed, "--run",
                       f"runs/{name}").code == 0  # fmt: skip
    monkeypatch.setenv("COLUMNS", "80")
    ended = command("compare", "runs/a", "runs/b")
    assert ended.code == 0
    assert "seed: 0 and 1" in ended.out and "gradient" in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80
    assert ended.out.splitlines()[-1] == "next: chainrule show runs/b --stage flow"
    found = command("compare", "runs/a", "runs/b", "--json").json
    assert found["same"] is False and found["loss"]["step"] == 1 and len(found["flows"]) == 2
    assert command("compare", "runs/a", "runs/c", "--json").json["same"] is True


def test_what_is_no_run_is_named(command):
    ended = command("compare", "runs/a", "runs/b", "--json")
    assert ended.code == 2 and "runs/a" in ended.json["error"]["message"]
