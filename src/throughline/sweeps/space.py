"""What a search draws: for each setting an interval, a range or a choice, in the words of Hydra."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException

from throughline.plumbing.errors import UserError


@dataclass(frozen=True)
class Draw:
    """A setting that is drawn.

    Attributes:
        key: its name.
        values: the override that says from what.
        when: another override, such as `regime=stateful`, without which it is not drawn; empty for always.
    """

    key: str
    values: Override
    when: str = ""


def draws(space: Mapping[str, Any], typed: Sequence[Override], parser: OverridesParser) -> list[Draw]:
    """The settings that a search draws: those of `space`, and those of the command line with several values.

    Raises:
        UserError: nothing is drawn, or something cannot be read.
    """
    given = {override.key_or_group: override for override in typed}
    found = {}
    for key, values in space.items():
        when, values = (str(values["when"]), values["values"]) if isinstance(values, Mapping) else ("", values)
        try:
            override = parser.parse_override(f"{key}={values}")
        except HydraException:
            raise UserError(f"sweep.space.{key}={values}: cannot be read; give choice(...) or interval(...)") from None
        if not override.is_sweep_override():
            raise UserError(f"sweep.space.{key}={values}: a single value; give choice(...) or interval(...)")
        if key not in given:
            found[key] = Draw(key, override, when)
    found |= {key: Draw(key, override) for key, override in given.items() if override.is_sweep_override()}
    if not found:
        raise UserError(
            "sweep.space: there is nothing to search; give several values, for example optimizer.lr='interval(0.001,0.1)'"
        )
    return list(found.values())


def drawn(trial: Any, draws: Sequence[Draw], fixed: Sequence[str]) -> list[str]:
    """The overrides of a trial of Optuna: what it draws, after what is fixed."""
    chosen = list(fixed)
    for draw in draws:
        if not draw.when or draw.when in chosen:
            chosen.append(f"{draw.key}={_value(trial, draw)}")
    return chosen


def _value(trial: Any, draw: Draw) -> str:
    values = draw.values.value()
    if isinstance(values, IntervalSweep):
        log = "log" in values.tags
        low, high = values.start, values.end
        if isinstance(low, int) and isinstance(high, int):
            return str(trial.suggest_int(draw.key, low, high, log=log))
        assert low is not None
        assert high is not None
        return f"{trial.suggest_float(draw.key, low, high, log=log):.6g}"
    return str(trial.suggest_categorical(draw.key, list(draw.values.sweep_string_iterator())))
