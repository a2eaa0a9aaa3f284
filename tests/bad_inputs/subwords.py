"""The wrong tokenizers that docs/bad-input.md names."""

import json
from pathlib import Path

from tokenizers import Tokenizer, models

from helpers import saved
from throughline.data.codecs.bpe import Bpe
from throughline.model.settings import LSTM


def prepare(folder: Path) -> None:
    """Write them: `tok-good.json` is a tokenizer, `tok-run.ckpt` generates by another one."""
    good = Bpe(vocab_size=260).fit(["the quick brown fox. " * 9]).tokenizer
    assert good is not None
    (folder / "tok-good.json").write_text(good, encoding="utf-8")
    (folder / "tok-torn.json").write_text(good[:-9], encoding="utf-8")
    (folder / "tok-latin1.json").write_bytes(b'{"caf\xe9": 1}')
    (folder / "tok-empty.json").write_text("{}", encoding="utf-8")
    values = json.loads(good)
    values["model"]["merges"].append(["no", "such"])
    (folder / "tok-merges.json").write_text(json.dumps(values), encoding="utf-8")
    Tokenizer(models.WordLevel({"the": 0, "fox": 1}, "the")).save(str(folder / "tok-words.json"))
    Tokenizer(models.BPE({"a": 0, "b": 1}, [])).save(str(folder / "tok-letters.json"))
    with (folder / "tok-large.json").open("wb") as file:
        file.truncate(2**24 + 1)
    saved(folder / "tok-run.ckpt", LSTM(hidden_size=4), Bpe(vocab_size=256).fit(["the quick"]))
