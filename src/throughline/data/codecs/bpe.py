"""A step is a subword: a frequent piece of text, found by byte-pair encoding."""

import importlib.util
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.data.codecs import Codec
from throughline.data.codecs.bytes import characters_of
from throughline.plumbing import stopping
from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import printable, text
from throughline.settings import STRICT, PathStr

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LEARNED = 8192
"""The tokens that are learned if nobody says how many."""
LARGEST = 2**24
"""The most characters of a tokenizer; that of Llama 3, with 128,000 tokens, has nine million."""
MOST_TOKENS = 2**20
BLOCK = 2**22
"""The characters that are encoded together. Pieces that are equal are encoded once in a block: five times as fast."""
PLACE = r"(?<=\S)(?=[ \n])"
"""Where GPT-2's pattern always cuts: only at its beginning may a token hold a space or a line break, and the pattern never
looks behind, nor beyond a sign that is not white space."""
LINE = r"(?<=\n)"
"""Where the pattern of another tokenizer is taken to cut: lines are encoded one by one."""


@dataclass(frozen=True, config=STRICT)
class Bpe(Codec):
    """Steps are tokens of a byte-level BPE (Sennrich 2016, as in GPT-2), so no text is unknown and every text survives.

    A tokenizer is trained on the training split, or read from the `tokenizer.json` of another model. Its token k has the
    id k + 1. What looks like a special token in a text, such as `<|endoftext|>`, is text as any other.
    """

    reads: ClassVar = "text"

    vocab_size: Annotated[int, Field(ge=256, le=MOST_TOKENS)] | None = None
    """How many tokens are learned from the training split, the 256 bytes among them. None: 8,192, or those of `path`."""
    path: PathStr | None = None
    """A `tokenizer.json` of Hugging Face's library tokenizers that is used as it is."""
    tokenizer: Annotated[str, Field(max_length=LARGEST)] | None = None
    """The whole tokenizer, as the text of such a file. None: it is trained, or read from `path`; a checkpoint holds it."""
    ended: bool = False
    """Whether there is an end symbol, with the last id. A source of sequences with ends sets it."""

    def __post_init__(self) -> None:
        if importlib.util.find_spec("tokenizers") is None:
            raise ValueError("bpe needs tokenizers, which is not installed: pip install -e '.[bpe]'")
        given = [name for name in ("vocab_size", "path", "tokenizer") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{given[0]} and {given[1]}: give one of them")
        try:
            _ = self.tokenizer and self._own
        except UserError as error:
            raise ValueError(str(error)) from None

    @property
    def fitted(self) -> bool:
        return self.tokenizer is not None or self.path is not None

    def fit(self, sequences: Iterable[Any]) -> Self:
        if self.tokenizer is not None:
            return self
        own = self._own
        if own is None:
            own = _trained((block for sequence in sequences for block in self._blocks(sequence)), self.vocab_size or LEARNED)
        return replace(self, vocab_size=None, path=None, tokenizer=own.to_str())

    @cached_property
    def _own(self) -> "Tokenizer | None":
        """The tokenizer; None if it is still to be trained.

        Raises:
            UserError: the file cannot be read, or is no byte-level BPE.
        """
        if self.path is None:
            return None if self.tokenizer is None else _read(self.tokenizer, "tokenizer")
        try:
            return _read(text(Path(self.path), LARGEST), self.path)
        except UserError as error:
            raise UserError(f"codec.path={error}; give a tokenizer.json of byte-level BPE, such as that of GPT-2") from None

    @cached_property
    def _tokens(self) -> list[bytes]:
        """What each id stands for; an id without a token is no UTF-8, so it is shown as U+FFFD."""
        assert self._own is not None, "fit it first"
        added, vocab = self._own.get_added_tokens_decoder(), self._own.get_vocab(with_added_tokens=True)
        tokens = [b"\xff"] * (max(vocab.values(), default=-1) + 2)
        for token, id in vocab.items():
            tokens[id + 1] = token.encode() if id in added else bytes(map(BYTES.__getitem__, token))
        return tokens + [b"\n"] * self.ended

    @property
    def size(self) -> int:
        return len(self._tokens)

    @property
    def end(self) -> int | None:
        return self.size - 1 if self.ended else None

    def with_end(self) -> Self:
        return replace(self, ended=True)

    @cached_property
    def _place(self) -> str:
        """The pattern of the places where a text is cut into pieces, each of which is encoded by itself."""
        if self._own is None:
            return PLACE
        own = json.loads(self._own.to_str())
        as_gpt2 = own["pre_tokenizer"].get("use_regex") and own["normalizer"] is None
        return PLACE if as_gpt2 and all(token["special"] for token in own["added_tokens"]) else LINE

    @property
    def normalizer(self) -> str | None:
        """What changes a text before it is encoded; None if the text survives as it is."""
        assert self._own is not None, "fit it first"
        own = json.loads(self._own.to_str())["normalizer"]
        return None if own is None else str(own["type"])

    def cut(self, raw: str) -> int:
        last = re.match(f"(?s:.*){self._place}", raw)
        return last.end() if last else 0

    def _blocks(self, raw: str) -> Iterator[str]:
        """Parts of a text of about `BLOCK` characters; longer ones where it cannot be cut."""
        begin, size = 0, BLOCK
        while begin < len(raw):
            part = raw[begin : begin + size]
            cut = len(part) if begin + size >= len(raw) else self.cut(part)
            if cut:
                yield part[:cut]
            begin, size = begin + cut, BLOCK if cut else 2 * size

    def encode(self, raw: str) -> np.ndarray:
        return np.concatenate([np.zeros(0, self.dtype), *map(self._encode, self._blocks(raw))])

    def _encode(self, block: str) -> np.ndarray:
        assert self._own is not None, "fit it first"
        pieces = re.split(self._place, block)
        unlike = list(dict.fromkeys(pieces))
        encoded = self._own.encode_batch_fast(unlike, add_special_tokens=False)
        ids = {piece: encoding.ids for piece, encoding in zip(unlike, encoded, strict=True)}
        tokens = np.fromiter(chain.from_iterable(map(ids.__getitem__, pieces)), np.uint32)
        return (tokens + np.uint32(1)).astype(self.dtype)

    def prompt(self, text: str) -> np.ndarray:
        if not text and not self.ended:
            raise UserError("prompt: contains no symbol; give at least one")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"prompt: {text[error.start]!r} is not a character; give a prompt in UTF-8") from None
        return self.after_end(self.encode(text))

    @property
    def opening(self) -> str:
        return "" if self.ended else "\n"

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Yield each character when its last byte arrives; bytes that are not UTF-8 are shown as U+FFFD."""
        return characters_of(map(self._tokens.__getitem__, ids))

    def extent(self, steps: np.ndarray) -> tuple[int, int]:
        lengths, words, begins, space = self._extents
        begun = int(np.count_nonzero(begins[steps[1:]] & space[steps[:-1]]))
        return int(words[steps[1:]].sum()) + begun, int(lengths[steps[1:]].sum())

    @cached_property
    def _extents(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of each id: its bytes, its line breaks and the words that begin behind its first byte, whether its first byte may
        begin a word, and whether its last one is white space."""
        begins = np.array([not token[:1].isspace() for token in self._tokens])
        words = np.array([len(token.split()) + token.count(b"\n") for token in self._tokens]) - begins
        return np.array(list(map(len, self._tokens))), words, begins, np.array([t[-1:].isspace() for t in self._tokens])


def _signs() -> dict[str, int]:
    """The byte that each sign in the tokens of a byte-level BPE stands for: printable ones for themselves."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + place): byte for place, byte in enumerate(others)}


BYTES = _signs()


def _read(text: str, where: str) -> "Tokenizer":
    """The tokenizer in the text of a `tokenizer.json`, so that every text survives: nothing is cut off, added or drawn.

    Raises:
        UserError: it is no byte-level BPE.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive the fork of a loader's worker
    from tokenizers import Tokenizer

    try:
        values = json.loads(text)
        cutter, added, model = values["pre_tokenizer"] or {"type": None}, values["added_tokens"], values["model"]
        last = cutter["pretokenizers"][-1] if cutter["type"] == "Sequence" else cutter
        if last["type"] != "ByteLevel" or model["type"] != "BPE" or model.get("end_of_word_suffix"):
            raise UserError(f"{where}: its tokens are not made of bytes")
        signs = set().union(*set(model["vocab"]) - {token["content"] for token in added})
        if signs != BYTES.keys() or not signs <= model["vocab"].keys():
            raise UserError(f"{where}: its tokens are not made of bytes, or lack one")
        if max(model["vocab"].values()) >= MOST_TOKENS:
            raise UserError(f"{where}: has more than the allowed {MOST_TOKENS:,} tokens")
        last["add_prefix_space"], model["dropout"] = False, None
        for token in added:
            token["lstrip"] = token["rstrip"] = False
        own = Tokenizer.from_str(json.dumps({**values, "truncation": None, "padding": None, "post_processor": None}))
    except UserError:
        raise
    except Exception as error:  # its type depends on what is wrong with the file
        raise UserError(f"{where}: no tokenizer ({type(error).__name__}: {printable(error, most=80)})") from None
    own.encode_special_tokens = True  # as any other text
    return own


def _trained(texts: Iterable[str], vocab_size: int) -> "Tokenizer":
    """A tokenizer of these texts; the same texts always give the same one."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    own = Tokenizer(models.BPE())
    own.pre_tokenizer, own.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    stopping.at_once(lambda: own.train_from_iterator(texts, trainer))
    return own
