"""What a search draws: for each setting an interval, a range or a choice, in the words of Hydra."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException

from throughline.plumbing.errors import UserError
from throughline.sweeps.study import library


@dataclass(frozen=True)
class Draw:
    """A setting that is drawn.

    Attributes:
        key: its name.
        distribution: of Optuna, from which it is drawn.
        when: the key and the value of another setting, without which it is not drawn; None for always.
    """

    key: str
    distribution: Any
    when: tuple[str, str] | None = None


def draws(space: Mapping[str, Any], typed: Sequence[Override], parser: OverridesParser) -> list[Draw]:
    """The settings that a search draws: those of `space`, and those of the command line with several values.

    Raises:
        UserError: nothing is drawn, or something cannot be read.
    """
    given = {override.key_or_group: override for override in typed}
    found: dict[str, Draw] = {}
    for key, values in space.items():
        when, values = (str(values["when"]), values["values"]) if isinstance(values, Mapping) else ("", values)
        try:
            override = parser.parse_override(f"{key}={values}")
        except HydraException:
            raise UserError(f"sweep.space.{key}={values}: cannot be read; give choice(...) or interval(...)") from None
        if not override.is_sweep_override():
            raise UserError(f"sweep.space.{key}={values}: a single value; give choice(...) or interval(...)")
        if key not in given:
            condition, _, value = when.partition("=")
            found[key] = Draw(key, _distribution(override), (condition, value) if when else None)
    found |= {key: Draw(key, _distribution(override)) for key, override in given.items() if override.is_sweep_override()}
    if not found:
        example = "optimizer.lr='interval(0.001,0.1)'"
        raise UserError(f"sweep.space: there is nothing to search; give several values, for example {example}")
    return sorted(found.values(), key=lambda draw: draw.when is not None)  # a condition needs what it asks for


def _distribution(override: Override) -> Any:
    """What Optuna draws from.

    Raises:
        UserError: nothing can be drawn from it.
    """
    values, kinds = override.value(), library().distributions
    try:
        if not isinstance(values, IntervalSweep):
            return kinds.CategoricalDistribution(sorted(override.sweep_string_iterator()))
        low, high, log = values.start, values.end, "log" in values.tags
        if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("an end is not finite")
        whole = isinstance(low, int) and isinstance(high, int)
        return (kinds.IntDistribution if whole else kinds.FloatDistribution)(low, high, log=log)
    except ValueError as error:
        raise UserError(
            f"{override.input_line}: nothing can be drawn from it, because {' '.join(str(error).split())}"
        ) from None


def drawn(trial: Any, draws: Sequence[Draw], fixed: Sequence[str], holds: Callable[[str, str], bool]) -> list[str]:
    """The overrides of a trial of Optuna: what it draws, after what is fixed.

    Args:
        holds: whether a setting that is not drawn has this value.

    Raises:
        UserError: this search has drawn a setting from other values before.
    """
    chosen: dict[str, str] = {}
    for draw in draws:
        if draw.when is not None:
            key, value = draw.when
            if not (chosen[key] == value if key in chosen else holds(key, value)):
                continue
        try:
            found = _suggested(trial, draw.key, draw.distribution)
        except ValueError:
            raise UserError(f"{draw.key}: this search has drawn from other values before; give it another folder") from None
        chosen[draw.key] = f"{found:.6g}" if isinstance(found, float) else str(found)
    return [*fixed, *(f"{key}={value}" for key, value in chosen.items())]


def _suggested(trial: Any, key: str, of: Any) -> Any:
    kinds = library().distributions
    if isinstance(of, kinds.CategoricalDistribution):
        return trial.suggest_categorical(key, of.choices)
    suggest = trial.suggest_int if isinstance(of, kinds.IntDistribution) else trial.suggest_float
    return suggest(key, of.low, of.high, log=of.log)
