"""Schedule: which statements run at once, and which run one after another for each block of rows, without waiting.

Threads wait for each other between statements. A network's passes need that seldom: what one row of a batch goes
through, forward and back, touches no other row until gradients of weights are summed. So the statements that deal
their points out to rows are drawn together as `Rows`, those that sum over rows wait until afterwards, and what then
is independent runs `Together`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from chainrule.kernel import Gemm, Nest, Program, Repeat, Rows, Statement, Together
from chainrule.kernel.effects import Shares, reads, shares, writes

LARGEST_WEIGHTS = 1 << 15
"""Elements of the right matrix up to which each block of rows may read all of it. With larger ones threads share the
columns of the result instead, so that each packs and reads only the weights that it has updated itself: with rows of
784 x 256, every core fetched half of them from the other one's cache in every step, which took a seventh of its time; a
step of 784-128-10 at 64 rows, whose weights both cores packed, took 218 us and then 175."""

CHAINS = 8
"""Runs of rows that are looked for in one program, at most; each looks at all statements."""


def scheduled(program: Program) -> Program:
    """The same statements in an order, and joined, so that threads seldom wait for each other."""
    return replace(program, statements=tuple(_in_segments(program.statements, program)))


def _in_segments(statements: Iterable[Statement], program: Program) -> list[Statement]:
    """Gates and loops over time keep their places, and split the rest into segments."""
    made: list[Statement] = []
    segment: list[Nest | Gemm] = []
    for statement in statements:
        if isinstance(statement, (Nest, Gemm)):
            segment.append(statement)
            continue
        if isinstance(statement, Repeat):
            statement = replace(statement, statements=tuple(_in_segments(statement.statements, program)))
        made += [*_scheduled(segment, program), statement]
        segment = []
    return [*made, *_scheduled(segment, program)]


def _scheduled(statements: list[Nest | Gemm], program: Program) -> list[Statement]:
    """One segment."""
    facts = {id(s): _Facts(s, reads(s), writes(s)) for s in statements}
    rows = _commonest_rows(statements)
    if rows < 2:
        return _side_by_side(statements)
    made: list[Statement] = []
    waiting: list[Nest | Gemm] = []
    for _ in range(CHAINS):
        chain = _Chain(rows, [program.buffers[b].size for b in range(len(program.buffers))])
        for s in statements:
            chain.take(facts[id(s)])
        if not chain.inside:
            break
        if chain.waits:
            made += [*_side_by_side(waiting + chain.before), Rows(rows, tuple(chain.inside))]
            waiting = []
        else:  # a weight may have as many rows as the batch
            waiting += chain.before + chain.inside
        statements = chain.after
    rest = waiting + statements
    return [*made, *(_by_level(rest, facts) if made else _side_by_side(rest))]


@dataclass(frozen=True)
class _Facts:
    statement: Nest | Gemm
    reads: frozenset[int]
    writes: frozenset[int]

    def may_pass(self, reads: set[int], writes: set[int]) -> bool:
        return all(
            own.isdisjoint(others)
            for own, others in ((self.writes, reads), (self.writes, writes), (self.reads, writes))
        )


def _commonest_rows(statements: list[Nest | Gemm]) -> int:
    """The number of rows that most work of products is dealt out to; 0 if there are no products."""
    work: Counter[int] = Counter()
    for s in statements:
        if isinstance(s, Gemm) and s.left.column == 1:
            work[s.batch if s.batch > 1 else s.m] += s.batch * s.m * s.n * s.k
    return max(work, key=lambda rows: (work[rows], rows), default=0)


@dataclass
class _Chain:
    """Statements sorted into those before a run of rows, inside and after it."""

    rows: int
    sizes: list[int]
    before: list[Nest | Gemm] = field(default_factory=list)
    inside: list[Nest | Gemm] = field(default_factory=list)
    after: list[Nest | Gemm] = field(default_factory=list)
    written: set[int] = field(default_factory=set)
    """Buffers that statements inside write."""
    met: set[int] = field(default_factory=set)
    """Buffers in which rows meet."""
    waits: bool = False
    """Whether something inside needs what something else inside makes; otherwise they may run at once anyway."""
    after_reads: set[int] = field(default_factory=set)
    after_writes: set[int] = field(default_factory=set)

    def take(self, facts: _Facts) -> None:
        """Sort in the next statement."""
        found = self._dealt(facts)
        if found is not None:
            self.inside.append(facts.statement)
            self.waits |= bool(facts.reads & self.written)
            self.written |= facts.writes
            self.met |= found.others
        elif not self.inside:
            self.before.append(facts.statement)
        else:
            self.after.append(facts.statement)
            self.after_reads |= facts.reads
            self.after_writes |= facts.writes

    def _dealt(self, facts: _Facts) -> Shares | None:
        """How the statement deals its buffers out, if it may be inside."""
        s = facts.statement
        if isinstance(s, Gemm) and s.k * s.n > LARGEST_WEIGHTS:
            return None
        if not facts.may_pass(self.after_reads, self.after_writes):
            return None
        found = shares(s, self.rows, self.sizes.__getitem__)
        if found is None or found.others & facts.writes:
            return None
        return found if found.others.isdisjoint(self.written) and facts.writes.isdisjoint(self.met) else None


def _side_by_side(statements: list[Nest | Gemm]) -> list[Statement]:
    """Neighbours that are independent, together; the order stays."""
    made: list[list[Nest | Gemm]] = []
    read, written = set[int](), set[int]()
    for s in statements:
        own_reads, own_writes = reads(s), writes(s)
        if made and not (written & (own_reads | own_writes) or read & own_writes):
            made[-1].append(s)
        else:
            made.append([s])
            read, written = set(), set()
        read |= own_reads
        written |= own_writes
    return [_together(group) for group in made]


def _by_level(statements: list[Nest | Gemm], facts: dict[int, _Facts]) -> list[Statement]:
    """Each statement as early as what it needs allows."""
    levels: list[list[Nest | Gemm]] = []
    touched: list[tuple[set[int], set[int]]] = []
    for s in statements:
        own = facts[id(s)]
        level = next((i + 1 for i in reversed(range(len(levels))) if not own.may_pass(*touched[i])), 0)
        if level == len(levels):
            levels.append([])
            touched.append((set(), set()))
        levels[level].append(s)
        touched[level][0].update(own.reads)
        touched[level][1].update(own.writes)
    return [_together(level) for level in levels]


def _together(statements: list[Nest | Gemm]) -> Statement:
    return statements[0] if len(statements) == 1 else Together(tuple(statements))
