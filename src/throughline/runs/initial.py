"""The model that a run begins with, if it is a trained one: its weights go on with other data or other settings."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from throughline.config import Config
from throughline.data.codecs import UNKNOWN, Codec
from throughline.data.codecs.table import Tabled
from throughline.data.corpus import Corpus
from throughline.model.generator import Generator
from throughline.model.settings import Model
from throughline.plumbing import reading
from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import printable
from throughline.runs.checkpoint import load_parts, refuse_other_settings
from throughline.runs.portable import LARGEST_FILE
from throughline.settings import defaults, word

SHOWN = 8
"""The most new symbols that are shown."""


@dataclass(frozen=True)
class Initial:
    """A trained model that a run begins with.

    Attributes:
        path: its file.
        sha256: that of the file when it was read.
        generator, codec: its parts.
        keeps_vocab: whether the weights of its symbols are kept, not only those of its core.
    """

    path: str
    sha256: str
    generator: Generator
    codec: Codec
    keeps_vocab: bool

    def to_plain(self) -> dict[str, str]:
        """Which model it is, for the checkpoints and the record of the run."""
        return {"file": str(Path(self.path).absolute()), "sha256": self.sha256}

    @torch.no_grad()
    def into(self, generator: Generator, codec: Codec) -> None:
        """Put its weights into a new generator. A symbol that it does not know gets the mean of all others."""
        old, new = self.generator.state_dict(), generator.state_dict()
        # Frames that are kept have the same features, and a head may have several rows for each of them.
        by_symbol = {} if self.keeps_vocab and codec.steps != "ids" else _by_symbol(generator)
        pairs = list(_places(self.codec, codec))
        there, here = (torch.tensor(ids) for ids in zip(*pairs, strict=True))
        known = torch.arange(UNKNOWN + 1, self.codec.size)
        for name, tensor in new.items():
            if name not in by_symbol:
                tensor.copy_(old[name])
            elif self.keeps_vocab:
                dim, before = by_symbol[name], old[name].to(tensor.dtype)
                if len(pairs) < codec.size:
                    tensor.copy_(before.index_select(dim, known).mean(dim, keepdim=True).expand_as(tensor))
                tensor.index_copy_(dim, here, before.index_select(dim, there))
        generator.head.in_units_of(codec)  # what it has copied there is of the other data

    def told(self, codec: Codec) -> str:
        """A line about what is kept of it."""
        about = f"init_from: {self.path}, {self.generator.settings.name}, {self.codec.name}"
        if self.codec.steps != "ids":
            return f"{about}; " + ("all weights are kept" if self.keeps_vocab else "the weights of its core are kept")
        if not self.keeps_vocab:
            return f"{about}; the weights of its core are kept, and the vocabulary of {codec.size:,} is new"
        new = sorted({*range(1, codec.size)} - {here for _, here in _places(self.codec, codec)})
        if not new:
            return f"{about}; its vocabulary of {codec.size:,} is kept"
        names = ["the end of a sequence" if id == codec.end else repr(codec.decode([id])) for id in new[:SHOWN]]
        names += ["..."] if len(new) > SHOWN else []
        begins = "begins" if len(new) == 1 else "begin"
        which, several = printable(", ".join(names), 200), "s" * (len(new) > 1)
        return f"{about}; {len(new):,} new symbol{several} ({which}) {begins} at the mean of its {self.codec.size:,}"


def read(config: Config, corpus: Corpus | None = None) -> tuple[Config, Corpus, Initial | None]:
    """The data of a run, and the model that it begins with; its settings with what they take over from that model.

    Args:
        config: settings of the model that are at their defaults become those of the trained model.
        corpus: None reads the configured data.

    Raises:
        UserError: the data or the model cannot be used, or not together.
    """
    if config.init_from is None:
        return config, config.read() if corpus is None else corpus, None
    path = config.init_from
    try:
        generator, codec, _ = load_parts(path)
        sha256 = hashlib.sha256(reading.content(Path(path), LARGEST_FILE)).hexdigest()
    except UserError as error:
        raise UserError(str(error).replace("checkpoint=", "init_from=", 1)) from None
    model = adopted(config.model, generator.settings, path)
    keeps_vocab = config.init_vocab != "replace"
    corpus = (_read(config, codec) if keeps_vocab else config.read()) if corpus is None else corpus
    if generator.head_settings.predicts != corpus.codec.steps:
        kinds = {"ids": "symbols", "multi_hot": "multi-hot frames", "real": "real frames"}
        raise UserError(
            f"init_from={path}: predicts {kinds[generator.head_settings.predicts]}, and the data are "
            f"{kinds[corpus.codec.steps]}; give other data"
        )
    if keeps_vocab and not _same_kind(codec, corpus.codec):
        raise UserError(
            f"init_from={path}: reads {codec.name} ({codec.size:,}), and the data are {corpus.codec.name} "
            f"({corpus.codec.size:,}); give init_vocab=replace, which keeps the weights of its core alone"
        )
    if config.head is not None and config.head != generator.head_settings:
        raise UserError(f"head={config.head.name}: the model in {path} has another one; leave head= out")
    if generator.head_settings != Config().suited(corpus.codec).head:  # otherwise it is the usual one, and needs no word
        config = replace(config, head=generator.head_settings)
    return replace(config, model=model), corpus, Initial(path, sha256, generator, codec, keeps_vocab)


def _read(config: Config, codec: Codec) -> Corpus:
    """The configured data by the codec of a trained model, to which symbols are added if that is wanted."""
    path = config.init_from
    if config.codec is not None and type(config.codec) is not type(codec):
        raise UserError(
            f"codec={config.codec.name}: the model in {path} reads {codec.name}; leave codec= out, or give "
            "init_vocab=replace"
        )
    if config.codec is not None:
        refuse_other_settings(config.codec, codec, f"the model in {path}")
    if config.init_vocab == "extend" and isinstance(codec, Tabled):
        found = config.read(replace(codec, symbols=None, ended=False)).codec
        assert isinstance(found, Tabled)
        more = [symbol for symbol in found.symbols or [] if symbol not in codec.ids]
        try:
            codec = replace(codec, symbols=[*(codec.symbols or []), *more])
        except ValidationError as error:
            why = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
            raise UserError(f"init_vocab=extend: {why}; give init_vocab=keep or replace") from None
    return config.read(codec)


def adopted(mine: Model, there: Model, path: str) -> Model:
    """The settings of a model with those of a trained one where they are at their defaults.

    Raises:
        UserError: a setting that is not at its default differs.
    """
    if type(mine) is not type(there):
        usual_of_mine = defaults(type(mine))
        if type(mine) is not type(Config().model) or any(
            getattr(mine, key) != value for key, value in usual_of_mine.items() if key not in Model.OF_TRAINING
        ):
            raise UserError(f"model={word(type(mine))}: the model in {path} is a {word(type(there))}; leave model= out")
        own = {key: getattr(mine, key) for key in Model.OF_TRAINING if hasattr(mine, key) and hasattr(there, key)}
        adopted: Model = replace(there, **own)
        return adopted
    usual, values = defaults(type(mine)), dict[str, Any]()
    for f in fields(mine):
        own, theirs = getattr(mine, f.name), getattr(there, f.name)
        if f.name not in Model.OF_TRAINING and own != theirs:
            if own != usual[f.name]:
                raise UserError(f"model.{f.name}={own}: the model in {path} has {theirs}; leave it out")
            values[f.name] = theirs
    adopted = replace(mine, **values)
    return adopted


def _same_kind(old: Codec, new: Codec) -> bool:
    """Whether a symbol of one is a symbol of the other."""
    if isinstance(old, Tabled):
        return type(old) is type(new)
    return new.encodes_as(old) or (old.end is None and new.end is not None and new.size == old.size + 1)


def _places(old: Codec, new: Codec) -> Iterator[tuple[int, int]]:
    """The ids of each symbol that both know, in both tables."""
    for id in range(old.size):
        if id == old.end:
            if new.end is not None:
                yield id, new.end
        elif id == UNKNOWN or not isinstance(old, Tabled) or not isinstance(new, Tabled):
            if id < new.size:
                yield id, id
        elif (here := new.ids.get(old.shown[id])) is not None:
            yield id, here


def _by_symbol(generator: Generator) -> dict[str, int]:
    """The weights that have a row per symbol, each with its dimension."""
    with torch.device("meta"):
        one, more = (
            Generator(generator.settings, generator.vocab_size + extra, generator.head_settings).state_dict()
            for extra in (0, 1)
        )
    return {
        name: next(dim for dim in range(weight.dim()) if weight.shape[dim] != more[name].shape[dim])
        for name, weight in one.items()
        if weight.shape != more[name].shape
    }
