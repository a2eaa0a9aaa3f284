"""The kinds of value that settings may have, each with its range."""

from typing import Annotated

from pydantic import ConfigDict, Field

# Built when first used: a command uses few of the classes, and each takes milliseconds to build.
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True, defer_build=True)

PositiveInt = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
