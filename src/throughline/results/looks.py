"""How members look in every chart and every report: the colour says the regime."""

import colorsys
import zlib
from typing import NamedTuple

from throughline.results.comparison import Member

REGIMES = {
    "stateful": "#0072b2",
    "segments": "#d55e00",
    "windowed": "#009e73",
    "padded": "#cc79a7",
    "onestep": "#e69f00",
    "shuffled_carry": "#8a8a8a",
}
"""The colours of our regimes. Most people who do not see all colours can distinguish them, on white or black."""
OTHERS = ("#56b4e9", "#8c6bb1", "#b2182b", "#66a61e")
"""Those of users' own regimes, by their names; and of other lines."""
COLOURS = (*REGIMES.values(), *OTHERS)
LIGHTER = (0.0, 0.18, -0.14, 0.3, -0.24)
"""Of several members of one regime: how much lighter or darker each is."""
DASHES = ("", "7 3", "2 3", "9 3 2 3")
SYMBOLS = ("o", "s", "D", "^", "X", "P", "v")
"""Symbols by matplotlib's names, so that colour is never the only difference."""


class Look(NamedTuple):
    """A colour, a pattern of dashes for SVG, and the number of a symbol."""

    colour: str
    dash: str = ""
    symbol: int = 0


def by_rank(rank: int) -> Look:
    """The look of a line that is no member."""
    return Look(COLOURS[rank % len(COLOURS)], "", rank % len(SYMBOLS))


def looks(members: list[Member]) -> dict[str, Look]:
    """The look of each member, by its label. Where all are of one regime, colours tell the members apart."""
    if len({member.regime for member in members}) == 1:
        return {member.label: by_rank(rank) for rank, member in enumerate(members)}
    found: dict[str, Look] = {}
    for rank, member in enumerate(members):
        place = sum(other.regime == member.regime for other in members[:rank])
        base = REGIMES.get(member.regime) or OTHERS[zlib.crc32(member.regime.encode()) % len(OTHERS)]
        found[member.label] = Look(
            _lighter(base, LIGHTER[place % len(LIGHTER)]), DASHES[place % len(DASHES)], rank % len(SYMBOLS)
        )
    return found


def _lighter(colour: str, by: float) -> str:
    red, green, blue = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    hue, light, full = colorsys.rgb_to_hls(red, green, blue)
    changed = colorsys.hls_to_rgb(hue, min(0.85, max(0.2, light + by)), full)
    return "#" + "".join(f"{round(255 * part):02x}" for part in changed)
