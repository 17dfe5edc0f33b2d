"""Which rules look, and with which limits: from arguments and from `chainrule.toml`."""

import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chainrule.doctor.rule import Rule
from chainrule.doctor.rules import all_rules
from chainrule.errors import ArgumentError

FILE = "chainrule.toml"


@dataclass(frozen=True)
class Settings:
    """select, ignore: codes, beginnings of codes ("CR2") or names; select empty: all. limits: by rule, then by field.

    As a file: a table ``[doctor]`` with ``select = ["CR2"]``, ``ignore = ["overfitting"]`` and one table a rule, such
    as ``[doctor.dead-units]`` with ``most = 0.9``.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def rules(self) -> tuple[Rule, ...]:
        """The rules that shall look. ArgumentError: a code, name or limit that there is not."""
        known = all_rules()
        for name in (*self.select, *self.ignore, *self.limits):
            _refuse_unknown(name, known)
        chosen = [r for r in known if not self.select or any(_means(name, r) for name in self.select)]
        chosen = [r for r in chosen if not any(_means(name, r) for name in self.ignore)]
        return tuple(_limited(r, self.limits) for r in chosen)


def settings_from(path: str | Path | None = None, select: Iterable[str] = (), ignore: Iterable[str] = ()) -> Settings:
    """Settings of a file (`chainrule.toml` here, if there is one); the caller's selections replace its own."""
    file = Path(FILE) if path is None else Path(path)
    if path is None and not file.is_file():
        return Settings(tuple(select), tuple(ignore))
    try:
        table: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8")).get("doctor", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ArgumentError(f"{str(file)!r} cannot be read as TOML: {error}") from error
    limits = {name: value for name, value in table.items() if isinstance(value, Mapping)}
    odd = [name for name in table if name not in limits and name not in ("select", "ignore")]
    if odd:
        raise ArgumentError(f"{str(file)!r}: [doctor] has no {odd[0]!r}; there are select, ignore and a table a rule")
    return Settings(tuple(select) or _names(table, "select"), tuple(ignore) or _names(table, "ignore"), limits)


def _names(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = table.get(key, [])
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ArgumentError(f'[doctor] {key} is a list of codes, such as ["CR201"], got {found!r}')
    return tuple(found)


def _means(name: str, rule: type[Rule]) -> bool:
    return rule.name == name or (name.startswith("CR") and rule.code.startswith(name))


def _refuse_unknown(name: str, known: tuple[type[Rule], ...]) -> None:
    if not any(_means(name, r) for r in known):
        near = difflib.get_close_matches(name, [x for r in known for x in (r.code, r.name)], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ArgumentError(
            f"the doctor has no rule {name!r}{hint} The codes go from {known[0].code} to {known[-1].code}"
        )


def _limited(rule: type[Rule], limits: Mapping[str, Mapping[str, float]]) -> Rule:
    given = {k: v for name, table in limits.items() if _means(name, rule) for k, v in table.items()}
    for key, value in given.items():
        if key not in rule.limits():
            raise ArgumentError(f"{rule.name} has no limit {key!r}; it has {', '.join(rule.limits())}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ArgumentError(f"{rule.name}: {key} must be a finite number, got {value!r}")
    return rule(**{k: float(v) for k, v in given.items()})
