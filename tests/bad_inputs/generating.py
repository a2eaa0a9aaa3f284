"""The wrong inputs of generate.py and prepare.py that docs/bad-input.md names."""

from pathlib import Path

import numpy as np

from helpers import saved
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.frames import Frames
from throughline.data.codecs.ids import Ids
from throughline.data.codecs.words import Words
from throughline.model.settings import LSTM


def prepare(folder: Path) -> None:
    """Write them: `gen-names.ckpt` generates sequences with ends, `gen-roll.ckpt` frames, the others texts without ends."""
    letters = Characters(list("abc"))
    saved(folder / "gen-names.ckpt", LSTM(hidden_size=4), letters.with_end())
    saved(folder / "gen-text.ckpt", LSTM(hidden_size=4), letters)
    saved(folder / "gen-words.ckpt", LSTM(hidden_size=4), Words(symbols=["<eos>", "a", "b"]))
    saved(folder / "gen-ids.ckpt", LSTM(hidden_size=4), Ids(vocab_size=9))
    saved(folder / "gen-roll.ckpt", LSTM(hidden_size=4), Frames(kind="multi_hot", features=2, ended=True))
    np.save(folder / "gen-twos.npy", np.array([[0, 2]]))
    (folder / "gen-folder").mkdir()
