"""Makers: each text is made once, by threads or by whoever waits, and nobody waits for what nobody makes."""

import os
import sys
import threading
import time

import pytest

from chainrule.backends.native import build
from chainrule.backends.native.makers import SWITCH_WITHIN, Makers


def test_what_was_begun_is_made_once_and_by_another_thread_while_the_caller_does_other_things():
    makers_of = {}

    def make(text):
        makers_of.setdefault(text, []).append(threading.current_thread())
        return text.encode()

    makers = Makers(make)
    for text in ("a", "b", "a"):
        makers.begin(text)
    deadline = time.monotonic() + 120
    while set(makers_of) != {"a", "b"} and time.monotonic() < deadline:
        time.sleep(0.001)
    assert [makers.take(text) for text in ("a", "b", "c")] == [b"a", b"b", b"c"]
    assert {text: len(found) for text, found in makers_of.items()} == {"a": 1, "b": 1, "c": 1}
    assert threading.current_thread() not in makers_of["a"] + makers_of["b"]
    assert makers_of["c"] == [threading.current_thread()]


def test_who_waits_makes_what_nobody_has_begun_to_make(monkeypatch):
    monkeypatch.setattr("chainrule.backends.native.makers.usable_cores", lambda: 2)
    busy, goes_on = threading.Event(), threading.Event()
    made_by = {}

    def make(text):
        made_by[text] = threading.current_thread()
        if text == "slow":
            busy.set()
            assert goes_on.wait(120)
        return text.encode()

    makers = Makers(make)
    makers.begin("slow")
    assert busy.wait(120)
    makers.begin("quick")  # no thread is left for it
    assert makers.take("quick") == b"quick"
    assert made_by["quick"] is threading.current_thread()
    goes_on.set()
    assert makers.take("slow") == b"slow"


def test_threads_switch_sooner_while_makers_work_and_as_before_afterwards():
    before, goes_on = sys.getswitchinterval(), threading.Event()
    began = threading.Event()

    def make(text):
        began.set()
        assert goes_on.wait(120)
        return b""

    makers = Makers(make)
    makers.begin("a")
    assert began.wait(120)
    assert sys.getswitchinterval() == pytest.approx(min(SWITCH_WITHIN, before), abs=1e-6)
    if hasattr(os, "fork"):
        child = os.fork()
        if not child:
            os._exit(0 if sys.getswitchinterval() == pytest.approx(before, abs=1e-6) else 1)
        assert os.waitpid(child, 0)[1] == 0
    goes_on.set()
    makers.take("a")
    deadline = time.monotonic() + 120
    while makers.working and time.monotonic() < deadline:
        time.sleep(0.001)
    assert sys.getswitchinterval() == pytest.approx(before, abs=1e-6)


def test_an_error_reaches_whoever_asks_and_the_next_try_begins_anew():
    tries = []

    def make(text):
        tries.append(text)
        raise ValueError(f"no code for {text}")

    makers = Makers(make)
    makers.begin("bad")
    for _ in range(2):
        with pytest.raises(ValueError, match="no code for bad"):
            makers.take("bad")
    assert len(tries) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_child_made_by_fork_does_not_wait_for_its_parents_threads():
    busy, goes_on = threading.Event(), threading.Event()
    parent = os.getpid()

    def make(text):
        if os.getpid() == parent:
            busy.set()
            assert goes_on.wait(120)
        return b"made"

    makers = Makers(make)
    makers.begin("text")
    assert busy.wait(120)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if makers.take("text") == b"made" else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    goes_on.set()
    assert makers.take("text") == b"made"


def test_code_that_two_threads_make_at_once_is_the_code_that_one_makes():
    texts = [f"define i64 @f{i}(i64 %x) {{\n  %y = mul i64 %x, {i}\n  ret i64 %y\n}}\n" for i in range(40)]
    alone = [build._machine().compile(text) for text in texts]
    found = {}

    def work(part):
        for i in part:
            found[i] = build._machine().compile(texts[i])

    threads = [threading.Thread(target=work, args=(range(k, 40, 4),)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(40)] == alone
