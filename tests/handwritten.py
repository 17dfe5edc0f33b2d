"""Tasks in IR written by hand, for tests of the runtime: it must not be tested with the emitter's code."""

from __future__ import annotations

from hashlib import sha256

from chainrule.backends.native.build import Module, load

HEAD = "define void @nest_{key}(ptr %slots, ptr %params, i64 %g0, i64 %g1, i64 %v0, i64 %v1) {{\nentry:\n"

ADD_TO_ELEMENTS = """
  %p = load i64, ptr %params
  %amount_at = getelementptr i64, ptr %params, i64 1
  %amount = load i64, ptr %amount_at
  %base_at = getelementptr ptr, ptr %slots, i64 %p
  %base = load ptr, ptr %base_at
  %none = icmp sge i64 %g0, %g1
  br i1 %none, label %end, label %loop
loop:
  %g = phi i64 [%g0, %entry], [%g_next, %loop]
  %e = getelementptr i64, ptr %base, i64 %g
  %old = load i64, ptr %e
  %new = add i64 %old, %amount
  store i64 %new, ptr %e
  %g_next = add i64 %g, 1
  %more = icmp slt i64 %g_next, %g1
  br i1 %more, label %loop, label %end
end:
  ret void
}
"""
"""slots[p0][g] += p1 for g in [g0, g1), int64."""

LAG = """
  %amount_at = getelementptr i64, ptr %params, i64 1
  %p = load i64, ptr %params
  %amount = load i64, ptr %amount_at
  %base_at = getelementptr ptr, ptr %slots, i64 %p
  %base = load ptr, ptr %base_at
  %e = getelementptr i64, ptr %base, i64 %g0
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%i_next, %loop]
  %i_next = add i64 %i, 1
  store volatile i64 %i_next, ptr %e
  %more = icmp slt i64 %i_next, %amount
  br i1 %more, label %loop, label %end
end:
  ret void
}
"""
"""Counts to p1 in slots[p0][g0]: work that takes about p1 / 4 ns or more."""

CHECK_ALL = """
  %p = load i64, ptr %params
  %want_at = getelementptr i64, ptr %params, i64 1
  %n_at = getelementptr i64, ptr %params, i64 2
  %wrong_at = getelementptr i64, ptr %params, i64 3
  %want_slot = load i64, ptr %want_at
  %n = load i64, ptr %n_at
  %wrong_slot = load i64, ptr %wrong_at
  %base_at = getelementptr ptr, ptr %slots, i64 %p
  %base = load ptr, ptr %base_at
  %want_base_at = getelementptr ptr, ptr %slots, i64 %want_slot
  %want_base = load ptr, ptr %want_base_at
  %want = load i64, ptr %want_base
  %wrong_base_at = getelementptr ptr, ptr %slots, i64 %wrong_slot
  %wrong = load ptr, ptr %wrong_base_at
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%i_next, %loop]
  %bad = phi i64 [0, %entry], [%bad_next, %loop]
  %e = getelementptr i64, ptr %base, i64 %i
  %x = load i64, ptr %e
  %differs = icmp ne i64 %x, %want
  %one = zext i1 %differs to i64
  %bad_next = add i64 %bad, %one
  store i64 0, ptr %e
  %i_next = add i64 %i, 1
  %more = icmp slt i64 %i_next, %n
  br i1 %more, label %loop, label %end
end:
  %before = load i64, ptr %wrong
  %after = add i64 %before, %bad_next
  store i64 %after, ptr %wrong
  ret void
}
"""
"""slots[p3][0] += how many of slots[p0][0 : p2] differ from slots[p1][0]; then they are 0."""

WHO = """
  %here = alloca i64
  %where = ptrtoint ptr %here to i64
  %base = load ptr, ptr %slots
  %e = getelementptr i64, ptr %base, i64 %g0
  store i64 %where, ptr %e
  ret void
}
"""
"""slots[0][g0] = an address in the stack of the thread that runs this."""

NOTHING = "  ret void\n}\n"


def written(body: str) -> Module:
    """A module of one task."""
    key = sha256(body.encode()).hexdigest()[:20]
    return Module(HEAD.format(key=key) + body, (f"nest_{key}",))


def address(body: str) -> int:
    module = written(body)
    return load([module])[module.functions[0]]
