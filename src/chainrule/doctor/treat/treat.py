"""Treat: try the remedies of a report on replays of the same training, and keep what is proven."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from chainrule.doctor.finding import Finding
from chainrule.doctor.report import Report
from chainrule.doctor.rule import Remedy
from chainrule.doctor.treat.change import Change, NotApplicable, diff_of
from chainrule.doctor.treat.compare import FEWEST, LATER, MARGIN, MOST, Comparison
from chainrule.doctor.treat.course import Reversed
from chainrule.doctor.treat.crew import Crew
from chainrule.doctor.treat.job import Job
from chainrule.doctor.treat.plan import Plan
from chainrule.doctor.treat.prescribe import BY_HAND, LATE, key_of, prescribe
from chainrule.doctor.treat.replay import Outcome
from chainrule.doctor.trials import Trial, Trials, Verdict, titled
from chainrule.errors import ArgumentError

ROUNDS = 3
"""Stacked faults that are peeled at most."""

LEAST = 50
"""Updates below which a replay is not shortened."""

SCREEN = 0.25
"""Share of the updates of a first, short replay, where replays are long."""

LONG = 2.0
"""Seconds from which on a replay is long."""

OF_SOME_SEEDS = ("predicted-fault",)
"""Rules whose findings speak of a share of the seeds, so that one seed, or six, say nothing."""

MORE_TIME = tuple(Remedy("train-longer", f"Train {word} times as long.", {"factor": factor})
                  for word, factor in (("ten", 10), ("a hundred", 100)))  # fmt: skip
"""What is tried beside the likeliest remedies where none is a cure: few updates may hide what they do."""

LONGER = 4.0
"""How many times longer replays get where short ones proved no cure and time is left."""

WELL = 0.9
"""Score from which on a treated training is not examined for further faults."""

Compared = tuple[Comparison, str, str]
"""Scores, what they measure, and what the validation part lost."""

OnTrial = Callable[[Trial], None]
Examine = Callable[[Plan, float], Report]
"""Train the plan and examine it, within so many seconds."""


def treat(
    report: Report, base: Plan, examine: Examine, *, budget: float = 120.0, on_trial: OnTrial | None = None,
    workers: int | None = None, remedies: Sequence[Remedy] = (),
) -> Trials:  # fmt: skip
    """Try the remedies of the flagged findings for at most `budget` seconds.

    base: the training that was examined. on_trial: called with each Trial as it is settled; None: it is printed.
    workers: processes for replays; None: as many as there are cores to use, 0: none.
    remedies: a treatment of one's own, all of them together, in place of the findings'.
    """
    if isinstance(budget, bool) or not isinstance(budget, (int, float)) or not budget > 0:
        raise ArgumentError(f"treat: budget is a number of seconds above 0, got {budget!r}")
    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 0):
        raise ArgumentError(f"treat: workers is a whole number of processes, 0 for none, got {workers!r}")
    began = time.perf_counter()
    if not report.flags and not remedies:
        return Trials((), notes=("nothing is flagged, so there is nothing to treat",), budget=budget)
    with Crew(base, workers) as crew:
        course = _Course(base, crew, began + budget, on_trial or _print, examine)
        if remedies:
            course.prove(tuple(remedies))
        else:
            course.run(report.flags)
        return replace(course.result(), budget=budget, seconds=time.perf_counter() - began)


def _print(trial: Trial) -> None:
    print(trial, flush=True)


@dataclass(frozen=True)
class _Option:
    """A remedy of a finding that can be applied."""

    finding: Finding
    remedies: tuple[Remedy, ...]
    plan: Plan
    changes: tuple[Change, ...]


class _Course:
    """One call of `treat`: what was replayed, what it proved, and what time is left."""

    def __init__(self, base: Plan, crew: Crew, deadline: float, on_trial: OnTrial, examine: Examine) -> None:
        self.base, self.crew, self.deadline = base, crew, deadline
        self.on_trial, self.examine = on_trial, examine
        self.known: dict[object, Outcome] = {}
        self.trials: list[Trial] = []
        self.untried: dict[str, None] = {}
        self.by_hand: dict[str, None] = {}
        self.not_applicable: dict[str, None] = {}
        self.notes: list[str] = []
        self.mended: tuple[Remedy, ...] = ()
        self.cure: Trial | None = None
        self.left: tuple[str, ...] = ()
        self.share, self.seconds = 1.0, 0.0

    @property
    def time_left(self) -> float:
        return self.deadline - time.perf_counter()

    def result(self) -> Trials:
        return Trials(
            tuple(self.trials), self.cure, tuple(self.untried), tuple(self.by_hand), tuple(self.not_applicable),
            (*self.notes, *self.crew.notes), left=self.left,
        )  # fmt: skip

    # ---------------------------------------------------------------------------------------- the course

    def run(self, findings: Sequence[Finding]) -> None:
        """Short replays first; longer ones while nothing that was proven makes the training learn."""
        remedies = [r for f in findings[:3] for r in f.remedy]
        if not self._measure(remedies):
            self._skip(findings)
            return
        self._peel(findings)
        if self.cure is None and self.base.start is not None:
            # The cause may lie before the checkpoint.
            self.base, self.mended = replace(self.base, start=None), ()
            if self._measure(remedies):
                self._peel(findings)
        while self.cure is None and self.share < 1 and self.time_left > LONGER * self.seconds:
            self.share = min(1.0, LONGER * self.share)
            self.seconds *= LONGER
            self.mended, self.untried = (), {}
            self._peel(findings)
        if self.cure is None:
            self._with_more_seeds()
        if self.cure is None:
            self._with_more_time(findings)
        if self.share < 1:
            self.notes.append(f"replays made {round(self.base.steps * self.share):,} of {self.base.steps:,} updates")
        if self.cure is None and any(t.proven for t in self.trials) and not any(map(_cures, self.trials)):
            self.notes.append("what is proven to help does not yet beat a constant prediction, so it is no cure")

    def prove(self, remedies: tuple[Remedy, ...]) -> None:
        """One treatment that somebody asks for, beside the untreated training. NotApplicable: it changes nothing."""
        prescribe(self.base, remedies)
        asked = _finding("", "", remedies)
        if not self._measure(remedies):
            self._skip((asked,))
            return
        trial = self._together(asked, remedies)
        if trial is not None and _cures(trial):
            self.cure = trial
        elif trial is not None:
            self._with_more_seeds()
        if self.share < 1:
            self.notes.append(f"replays made {round(self.base.steps * self.share):,} of {self.base.steps:,} updates")

    def _peel(self, findings: Sequence[Finding]) -> None:
        """Findings in their order; what is proven is applied, and the rest is examined again."""
        for _ in range(ROUNDS):
            best = self._first_proven(findings)
            if best is None and not self.mended:
                best = self._combined(findings)
            if best is None:
                break
            self.mended = (*self.mended, *best.remedies)
            whole = best if not best.mended else self._whole_cure(best)
            self.cure = whole if _cures(whole) else self.cure
            findings = self._examined_again(best)
            if not findings:
                return
        self.left = tuple(f"{f.code} {f.name}" for f in findings) if self.cure is not None else ()

    def _with_more_seeds(self) -> None:
        """What gains within the spread over seeds, the best first: a fault of some seeds only shows in more of them."""
        self.mended = ()
        gaining = [t for t in self.trials if not t.mended and t.verdict == "no effect" and t.seeds == MOST
                   and t.effect >= (0.0 if t.name in OF_SOME_SEEDS else MARGIN)
                   and t.steps == self._updates(t.begins)]  # fmt: skip
        for trial in sorted(gaining, key=lambda t: -t.effect):
            plan, changes = prescribe(self.base, trial.remedies)
            option = _Option(_finding(trial.code, trial.name, trial.remedies), trial.remedies, plan, changes)
            for seeds in LATER:
                if self.time_left <= seeds * self.seconds:
                    return
                self._replay([job for d in range(seeds) for job in (self._base(option, (), d), self._job(option, d))])
                found = self._compared(option, (), seeds, self.share)
                if found is None or (found[0].effect < MARGIN and trial.name not in OF_SOME_SEEDS):
                    break
                if found[0].proven or seeds == LATER[-1]:
                    more = self._trial(option, found, (), False, 0.0)
                    self.trials.append(more)
                    self.on_trial(more)
                    if _cures(more):
                        self.cure = more
                        return
                    break

    def _with_more_time(self, findings: Sequence[Finding]) -> None:
        """What helps without being a cure, and the likeliest remedies, each with many times the updates."""
        self.mended = ()
        if any(_mean(t.before) >= WELL for t in self.trials):
            return  # the training goes well as it is
        helped = sorted((t for t in self.trials if t.proven), key=lambda t: -_mean(t.after))
        first = [o for f in findings[:2] for o in islice(self._untreated(f), 2)]
        likely = [*[(*t.mended, *t.remedies) for t in helped[:1]], *(o.remedies for o in first)]
        if len({o.finding.code for o in first}) > 1:
            likely.append((*first[0].remedies, *next(o for o in first if o.finding is not first[0].finding).remedies))
        for longer in MORE_TIME:
            for remedies in dict(zip(map(key_of, likely), likely, strict=True)).values():
                if self.time_left < 2 * longer.parameters["factor"] * self.seconds:
                    continue
                cause = next((f for f in findings if remedies[0] in f.remedy), findings[0])
                trial = self._together(cause, (*remedies, longer))
                if trial is not None and _cures(trial):
                    smallest = self._smallest(trial, cause)
                    if smallest.remedies == (longer,):
                        # More updates help nearly everything that has not learned all, so they mend nothing here.
                        self.notes.append(
                            "training longer helps as much by itself, without what is flagged being mended"
                        )
                        return
                    self.cure = smallest
                    return

    def _measure(self, remedies: Sequence[Remedy]) -> bool:
        """Replay the training as it was, and choose how long replays may be. False: there was no time even for it.

        remedies: those that are to be tried, as far as one can tell.
        """
        left = self.base.steps - (0 if self.base.start is None else self.base.start.step)
        job = Job(late=self.base.start is not None)
        first = self.crew.here(job, self.time_left / 4)
        if not first.whole and first.steps < min(LEAST, left):
            self.notes.append("the time did not suffice for one replay of the training as it was")
            return False
        pace = self._pace(first)
        late = sum(self._late((r,)) for r in remedies)
        early = len(remedies) - late
        needed = pace * (left * (late + 4 * FEWEST) * (late > 0) + self.base.steps * (early + 4 * FEWEST) * (early > 0))
        self.crew.expect(needed)
        needed /= max(self.crew.count, 1)
        least = min(LEAST / left, 1.0)
        self.share = min(1.0, max(least, 0.7 * self.time_left / max(needed, 1e-9)))
        self.seconds = pace * (self.base.steps if early else left) * self.share
        if first.whole and self.share == 1:
            self.known[job.key] = first
        return True

    def _pace(self, first: Outcome) -> float:
        """Seconds of an update. first: a replay of the training as it was."""
        if first.fault and first.steps < min(LEAST, self.base.steps):
            # It broke off before it could be timed, so a few updates are made in spite of what is not finite.
            brief = replace(self.base, skip_bad=True, steps=min(LEAST, self.base.steps), start=None)
            first = self.crew.own(brief, Job().key[0], time.perf_counter() + self.time_left / 8)[0]
        return first.seconds / max(first.steps, 1)

    def _late(self, remedies: Sequence[Remedy]) -> bool:
        """Whether a treatment goes on from the checkpoint: all that it changes is the course of training."""
        return self.base.start is not None and all(r.id in LATE for r in (*self.mended, *remedies))

    def _first_proven(self, findings: Sequence[Finding]) -> Trial | None:
        """The best proven treatment of the first finding that has one."""
        for i, finding in enumerate(findings):
            options = list(self._options(finding))
            if options and self.time_left <= 0:
                self._skip(findings[i:])
                return None
            proven = [t for t in self._tried(options) if t.proven]
            if proven:
                most = max(_mean(t.after) for t in proven)
                order = [key_of((r,)) for r in finding.remedy]
                good = [t for t in proven if _mean(t.after) >= most - MARGIN]  # of equals the rule's own first
                return min(good, key=lambda t: order.index(key_of(t.remedies)))
        return None

    def _options(self, finding: Finding) -> Iterator[_Option]:
        """The remedies of a finding that change something here; of the others it is said why not."""
        seen = {key_of((*t.mended, *t.remedies)) for t in self.trials if t.steps == self._updates(t.begins)}
        for remedy in finding.remedy:
            if remedy.id in BY_HAND:
                self.by_hand[f"{remedy.text} ({finding.code}: {BY_HAND[remedy.id]})"] = None
                continue
            try:
                plan, changes = prescribe(self.base, (*self.mended, remedy))
            except NotApplicable as reason:
                self.not_applicable[f"{titled(remedy)} for {finding.code}: {reason}"] = None
                continue
            if key_of((*self.mended, remedy)) not in seen:
                yield _Option(finding, (remedy,), plan, changes[len(self.mended) :])

    def _tried(self, options: Sequence[_Option]) -> Iterator[Trial]:
        """Short replays of all on the run's own seed first; then more seeds for those that gain, the best first."""
        if self.seconds > LONG and self.base.steps * self.share * SCREEN > LEAST:
            options = self._ordered(options, self.share * SCREEN)
        self._replay([job for o in options for job in (self._base(o, self.mended, 0), self._job(o, 0))])
        options = sorted(options, key=lambda o: -self._gain(o, self.share))
        for option in options:
            trial = self._settled(option)
            if trial is not None:
                self.trials.append(trial)
                self.on_trial(trial)
                yield trial

    def _ordered(self, options: Sequence[_Option], share: float) -> list[_Option]:
        """The options by what a short replay gains."""
        self._replay([j for o in options for j in (self._base(o, self.mended, 0, share), self._job(o, 0, share))])
        return sorted(options, key=lambda o: -self._gain(o, share))

    def _gain(self, option: _Option, share: float) -> float:
        found = self._compared(option, self.mended, 1, share)
        return -1.0 if found is None else found[0].effect

    def _settled(self, option: _Option, against: tuple[Remedy, ...] | None = None) -> Trial | None:
        """The verdict, with as many seeds as it needs; None if there was no time for the first."""
        began = time.perf_counter()
        against = self.mended if against is None else against
        found = self._compared(option, against, 1, self.share)
        if found is None:
            asked = f"{' and '.join(map(titled, option.remedies))} for {option.finding.code}"
            self.untried[asked.removesuffix(" for ")] = None
            return None
        seeds, late = 1, False
        least = MOST if option.finding.name in OF_SOME_SEEDS else 1 if option.finding.code else FEWEST
        while found[0].open or seeds < least:
            seeds = max(FEWEST, least, seeds + 1)
            draws = range(seeds)
            self._replay([job for d in draws for job in (self._base(option, against, d), self._job(option, d))])
            more = self._compared(option, against, seeds, self.share)
            if more is None:
                late = True
                break
            found = more
        return self._trial(option, found, against, late, time.perf_counter() - began)

    def _trial(
        self, option: _Option, found: Compared, against: tuple[Remedy, ...], late: bool, seconds: float
    ) -> Trial:  # fmt: skip
        compared, measure, harm = found
        verdict: Verdict = "no effect"
        said = ""
        if compared.proven and harm:
            verdict, said = "worse", harm
        elif compared.proven:
            verdict = "proven"
        elif compared.worse:
            verdict = "worse"
        elif late:
            verdict, said = "unsettled", "the time did not suffice for more seeds"
        elif compared.effect >= MARGIN:
            said = "within the spread over seeds"
        fault = self.known[self._job(option, 0).key].fault
        changes = option.changes
        return Trial(
            option.finding.code, option.finding.name, option.remedies, verdict, compared.before, compared.after,
            measure, compared.p, self._updates(self._begins(option)), diff_of(changes),
            diff_of(changes, "pytorch"), against, fault or said, seconds, self._begins(option),
        )  # fmt: skip

    def _updates(self, begins: int) -> int:
        """Updates of a replay that begins behind so many."""
        return max(1, round((self.base.steps - begins) * self.share))

    def _begins(self, option: _Option) -> int:
        return self.base.start.step if self.base.start is not None and self._late(option.remedies) else 0

    def _job(self, option: _Option, draw: int, share: float | None = None) -> Job:
        share = self.share if share is None else share
        return Job((*self.mended, *option.remedies), draw, share, self._late(option.remedies))

    def _base(self, option: _Option, against: tuple[Remedy, ...], draw: int, share: float | None = None) -> Job:
        """What an option is compared with: the same updates without it."""
        return Job(against, draw, self.share if share is None else share, self._late(option.remedies))

    def _replay(self, jobs: Sequence[Job]) -> None:
        new = [j for j in {j.key: j for j in jobs}.values() if j.key not in self.known]
        if new and self.time_left > 0:
            for job, outcome in self.crew.run(new, self.deadline):
                if outcome.whole:
                    self.known[job.key] = outcome

    def _compared(self, option: _Option, against: tuple[Remedy, ...], seeds: int, share: float) -> Compared | None:
        """(scores without and with it, what they measure, what the validation part lost); None: not all known."""
        before = [self.known.get(self._base(option, against, d, share).key) for d in range(seeds)]
        after = [self.known.get(self._job(option, d, share).key) for d in range(seeds)]
        if None in before or None in after:
            return None
        pairs = [[o for o in side if o is not None] for side in (before, after)]
        base = prescribe(self.base, against)[0]
        alike = _formula(base) == _formula(option.plan) and _bounded(base)
        held = self.base.held is not None
        on_held = held and option.finding.name == "overfitting"

        def score(o: Outcome, held: bool) -> float:
            if held:
                return (o.held_progress if alike else o.held_skill) or 0.0
            return o.progress if alike else o.skill

        sides = [tuple(score(o, on_held) for o in side) for side in pairs]
        kind = "loss" if alike else "R2" if self.base.truth.kind == "numbers" else "accuracy"
        measure = f"{'validation' if on_held else 'training'} {kind}"
        harm = ""
        if held and not on_held:
            lost = [sum(score(o, True) for o in side) / seeds for side in pairs]
            if lost[1] < lost[0] - MARGIN:
                harm = f"the validation {kind} fell from {lost[0]:.0%} to {lost[1]:.0%}"
        return Comparison(sides[0], sides[1]), measure, harm

    def _skip(self, findings: Sequence[Finding]) -> None:
        for finding in findings:
            for remedy in finding.remedy:
                if remedy.id not in BY_HAND:
                    self.untried[f"{titled(remedy)} for {finding.code}".removesuffix(" for ")] = None

    # ---------------------------------------------------------------------------------------- stacked faults

    def _combined(self, findings: Sequence[Finding]) -> Trial | None:
        """Where no remedy helps alone, one fault may hide another: mend the first, and look what comes to the top."""
        if not findings or self.time_left <= 0:
            return None
        first = next(self._untreated(findings[0]), None)
        if first is None:
            return None
        steps = max(1, round(first.plan.steps * self.share))
        hidden = self.examine(replace(first.plan, steps=steps), self.time_left / 4).flags
        for finding in (*hidden[:1], *findings[1:2]):
            for other in self._untreated(finding):
                if other.remedies == first.remedies or self.time_left <= 0:
                    continue
                trial = self._together(finding, (*first.remedies, *other.remedies))
                if trial is not None and trial.proven:
                    return self._smallest(trial, finding)
        return None

    def _untreated(self, finding: Finding) -> Iterator[_Option]:
        for remedy in finding.remedy:
            if remedy.id in BY_HAND:
                continue
            try:
                plan, changes = prescribe(self.base, (remedy,))
            except NotApplicable:
                continue
            yield _Option(finding, (remedy,), plan, changes)

    def _together(self, finding: Finding, remedies: tuple[Remedy, ...]) -> Trial | None:
        """Several remedies beside the untreated training; None if there was no time or they do not combine."""
        held, self.mended = self.mended, ()
        try:
            plan, changes = prescribe(self.base, remedies)
            option = _Option(finding, remedies, plan, changes)
            self._replay([self._base(option, (), 0), self._job(option, 0)])
            trial = self._settled(option)
        except NotApplicable:
            return None
        finally:
            self.mended = held
        if trial is not None:
            self.trials.append(trial)
            self.on_trial(trial)
        return trial

    def _whole_cure(self, last: Trial) -> Trial:
        """All that was proven, beside the untreated training, without the parts that it does not need."""
        finding = _finding(last.code, last.name, last.remedies)
        whole = self._together(finding, self.mended)
        if whole is None or not whole.proven:
            return last
        whole = self._smallest(whole, finding)
        self.mended = whole.remedies
        return whole

    def _smallest(self, whole: Trial, finding: Finding) -> Trial:
        """The treatment without the parts that it does as well without."""
        for remedy in whole.remedies:
            rest = tuple(r for r in whole.remedies if r is not remedy)
            tried = next(
                (t for t in self.trials if not t.mended and t.remedies == rest and t.steps == whole.steps), None
            )
            smaller = tried or (self._together(finding, rest) if rest and self.time_left > 0 else None)
            if smaller is not None and smaller.proven and _mean(smaller.after) >= _mean(whole.after) - MARGIN:
                whole = smaller
        return whole

    def _examined_again(self, best: Trial) -> Sequence[Finding]:
        """What is still flagged with the cure applied; nothing where it goes well or there is no time to look."""
        if _mean(best.after) >= WELL or self.time_left < 2 * self.seconds + 1:
            return ()
        plan, _ = prescribe(self.base, self.mended)
        again = self.examine(replace(plan, steps=max(1, round(plan.steps * self.share))), self.time_left / 4)
        return again.flags


def _finding(code: str, name: str, remedies: tuple[Remedy, ...]) -> Finding:
    """The finding that a further trial is for: only its code, name and remedies are read."""
    return Finding(code, name, "error", "", 0, None, "", "", remedies, "", "none", 1.0, False)


def _cures(trial: Trial) -> bool:
    """Whether the treated training also learns: better than a constant prediction by what counts at all."""
    return trial.proven and _mean(trial.after) >= MARGIN


def _formula(plan: Plan) -> tuple[str, bool, bool]:
    """Equal for plans whose losses are the same function of prediction and truth, up to the targets' scale."""
    return plan.loss_name, getattr(plan.loss, "weight", None) is not None, isinstance(plan.loss, Reversed)


def _bounded(plan: Plan) -> bool:
    """Whether no prediction is better than a perfect one: binary cross-entropy of targets beyond 0 and 1 has no end."""
    return not plan.loss_name.startswith("binary") or bool(plan.y.min() >= 0 and plan.y.max() <= 1)


def _mean(scores: Sequence[float]) -> float:
    return sum(scores) / len(scores) if scores else 0.0
