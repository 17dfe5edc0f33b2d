"""The rules, one file each. A file put here is found by itself: nothing else names it."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from chainrule.doctor.rule import Rule


@cache
def all_rules() -> tuple[type[Rule], ...]:
    """Every rule, in the order of their codes."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return tuple(sorted(Rule.__subclasses__(), key=lambda rule: rule.code))
