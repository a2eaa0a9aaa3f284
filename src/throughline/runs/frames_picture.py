"""Draws frames: multi-hot ones as a roll, real ones as curves."""

import io
from typing import TYPE_CHECKING

import numpy as np

from throughline.data.codecs.frames import Frames
from throughline.plumbing.reading import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CURVES = 8
"""Features that are drawn as curves of their own; more are drawn as one image."""
LONGEST = 2000
"""The frames that are drawn; a picture has no more columns to show them in."""


def drawn(frames: np.ndarray, codec: Frames, title: str) -> bytes:
    """A picture (PNG) of frames (T, F) in the units of the data, time from left to right."""
    from matplotlib.figure import Figure

    frames, curves = frames[:LONGEST], codec.steps == "real" and codec.size <= MOST_CURVES
    panels = codec.size if curves else 1
    figure = Figure(figsize=(10, 1 + 1.5 * panels if curves else 4.5), layout="constrained")
    axes = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
    if curves:
        for place, panel in enumerate(axes):
            panel.plot(frames[:, place], linewidth=1)
            panel.set_ylabel(_name(codec, place))
            panel.grid(alpha=0.3)
    else:
        _image(axes[0], frames, codec)
    axes[-1].set_xlabel("frame")
    axes[-1].set_xlim(-0.5, max(len(frames), 1) - 0.5)
    figure.suptitle(title)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    return picture.getvalue()


def _image(axes: "Axes", frames: np.ndarray, codec: Frames) -> None:
    """All features as the rows of an image: of a roll black where one is set, else coloured by the standardised value."""
    if codec.steps == "multi_hot":
        axes.imshow(frames.T, aspect="auto", origin="lower", cmap="Greys", vmin=0, vmax=1, interpolation="none")
    else:
        standardised = codec.encode(frames).T
        image = axes.imshow(
            standardised, aspect="auto", origin="lower", cmap="RdBu_r", vmin=-3, vmax=3, interpolation="none"
        )
        axes.figure.colorbar(image, ax=axes, label="value, standardised")
    set_once = np.flatnonzero(frames.any(axis=0)) if codec.steps == "multi_hot" else np.arange(codec.size)
    if len(set_once):  # keys that never sound would only make the others small
        axes.set_ylim(set_once[0] - 1.5, set_once[-1] + 1.5)
    axes.set_ylabel("feature")
    if codec.names is not None and codec.size <= 40:
        axes.set_yticks(range(codec.size), [_name(codec, place) for place in range(codec.size)])


def _name(codec: Frames, place: int) -> str:
    return f"feature {place}" if codec.names is None else printable(codec.names[place], 20).replace("$", r"\$")
