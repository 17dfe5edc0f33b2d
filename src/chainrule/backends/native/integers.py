"""Integer powers, and the counter bits of Philox."""

from __future__ import annotations

from chainrule.backends.native.formula import Lanes
from chainrule.backends.native.vectors import LANES

PHILOX_ROUNDS = 10
# Multipliers and key steps of Philox-4x32: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.
PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_STEPS = (0x9E3779B9, 0xBB67AE85)


def power(base: Lanes, exponent: Lanes) -> Lanes:
    """base^exponent by squaring, modulo 2^bits. A negative exponent gives what its bits mean without a sign."""
    w, zero = base.writer, base.like(0)
    before, head, done = w.block, w.name(), w.name()
    w.go(head)
    w.label(head)
    operand, result_phi = w.phi(base.type, base.like(1).operand, before)
    square_operand, square_phi = w.phi(base.type, base.operand, before)
    left_operand, left_phi = w.phi(base.type, exponent.operand, before)
    result, square, left = (Lanes(w, base.element, o) for o in (operand, square_operand, left_operand))
    result = (left & 1).equals(0).choose(result, result * square)
    left = Lanes(w, base.element, w.value(f"lshr {base.type} {left.operand}, {base.like(1).operand}"))
    w.close(result_phi, result.operand)
    w.close(square_phi, (square * square).operand)
    w.close(left_phi, left.operand)
    more = left.differs(zero)
    w.branch(w.value(f"call i1 @llvm.vector.reduce.or.v{LANES}i1({more.type} {more.operand})"), head, done)
    w.label(done)
    return result


def philox(words: list[Lanes]) -> str:
    """The first two words of Philox-4x32-10 as a pair. words: four of the counter, two of the key."""
    c0, c1, c2, c3, k0, k1 = words
    w = c0.writer
    for _ in range(PHILOX_ROUNDS):
        high0, low0 = _wide_product(c0, PHILOX_MULTIPLIERS[0])
        high1, low1 = _wide_product(c2, PHILOX_MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + PHILOX_STEPS[0], k1 + PHILOX_STEPS[1]
    pair = f"{{{c0.type}, {c0.type}}}"
    first = w.value(f"insertvalue {pair} poison, {c0.type} {c0.operand}, 0")
    return w.value(f"insertvalue {pair} {first}, {c0.type} {c1.operand}, 1")


def _wide_product(word: Lanes, factor: int) -> tuple[Lanes, Lanes]:
    """The upper and lower 32 bits of a product."""
    product = word.convert("zext", "i64") * factor
    upper = Lanes(word.writer, "i64", word.writer.value(f"lshr {product.type} {product.operand}, splat (i64 32)"))
    return upper.convert("trunc", "i32"), product.convert("trunc", "i32")
