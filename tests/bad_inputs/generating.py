"""The wrong inputs of generate.py and prepare.py that docs/bad-input.md names."""

from pathlib import Path

from helpers import saved
from throughline.data.codecs.characters import Characters
from throughline.model.settings import LSTM


def prepare(folder: Path) -> None:
    """Write them: `gen-names.ckpt` generates sequences with ends, `gen-text.ckpt` texts without."""
    letters = Characters(list("abc"))
    saved(folder / "gen-names.ckpt", LSTM(hidden_size=4), letters.with_end())
    saved(folder / "gen-text.ckpt", LSTM(hidden_size=4), letters)
    (folder / "gen-folder").mkdir()
