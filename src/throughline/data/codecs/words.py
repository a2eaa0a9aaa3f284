"""A step is a word: what stands between white space, or the end of a line."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import repeat
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.data.codecs import UNKNOWN
from throughline.data.codecs.table import Tabled
from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import printable
from throughline.settings import STRICT, PositiveInt

UNK, EOS = "<unk>", "<eos>"
"""The unknown word and the end of a line, as word-level benchmarks write them."""
PIECE = 2**20
"""The characters that are split at once: a list of words takes twenty times the memory of its text."""
LARGEST_TABLE = 2**23
"""The most words of a table and their characters, together, so that every file that holds it can be read again."""
SPACE = re.compile(r"\s")


@dataclass(frozen=True, config=STRICT)
class Words(Tabled):
    """Steps are words, apart by white space; each line break is the word `<eos>`, as in Penn Treebank and WikiText-2.

    `fit` orders words by how often they occur, and equally frequent ones by code point. Words that it leaves out, and words
    that it has never seen, become `<unk>`. A text may itself hold `<unk>` and `<eos>`: they are the same words. `<unk>` has
    the id 0, and is not trained, only if the training split has neither rare words nor `<unk>`.
    """

    reads: ClassVar = "text"

    min_count: PositiveInt = 1
    """How often a word must occur in the training split; rarer ones become `<unk>`. Give 2 or more for prose, so that the
    network learns what to make of unknown words."""
    max_vocab: Annotated[int, Field(ge=3)] | None = None
    """The most words in the table, `<unk>` and `<eos>` among them: the most frequent stay. None: all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(symbol.split() != [symbol] for symbol in self.symbols or []):
            raise ValueError("a word is empty, or holds white space")

    def fit(self, sequences: Iterable[Any]) -> Self:
        if self.fitted:
            return self
        counts: Counter[str] = Counter()
        for sequence in sequences:
            for words in self._split(sequence):
                counts.update(words)
        if not counts:
            raise UserError("codec=words: the train split holds white space only; give a text with words")

        def rank(word: str) -> tuple[int, str]:
            return -counts[word], word

        most = self.max_vocab or len(counts) + 1
        always = {UNK, EOS} & counts.keys()
        own = sorted((word for word in counts.keys() - always if counts[word] >= self.min_count), key=rank)
        if not own and counts.keys() - always:
            times = max(counts[word] for word in counts.keys() - always)
            raise UserError(
                f"codec.min_count={self.min_count}: no word occurs so often in the train split; {times:,} is the most"
            )
        if not len(counts) == len(own) + len(always) <= most:
            always.add(UNK)
            own = own[: most - len(always)]
            counts[UNK] = counts.total() - sum(counts[word] for word in {EOS, *own})
        if sum(map(len, own)) + len(own) > LARGEST_TABLE:
            raise UserError(
                f"codec=words: the table would hold {len(own):,} words of {sum(map(len, own)):,} characters, more than "
                f"{LARGEST_TABLE:,} together; give codec.min_count=2 or more, codec.max_vocab, or codec=characters"
            )
        return replace(self, symbols=sorted([*always, *own], key=rank))

    @property
    def unknown(self) -> int:
        return self.ids.get(UNK, UNKNOWN)

    def encode(self, raw: str) -> np.ndarray:
        get, unknown = self.ids.get, repeat(self.unknown)
        pieces = [np.fromiter(map(get, words, unknown), self.dtype, len(words)) for words in self._split(raw)]
        return np.concatenate([np.zeros(0, self.dtype), *pieces])

    def cut(self, raw: str) -> int:
        """Up to the last white space: the word after it may go on."""
        begun = [] if raw[-1:].isspace() else raw.rsplit(maxsplit=1)[-1:]
        return len(raw) - sum(map(len, begun))

    def _split(self, text: str) -> Iterator[list[str]]:
        """The words, piece by piece."""
        first = 0
        while first < len(text):
            space = SPACE.search(text, first + PIECE)
            last = space.end() if space else len(text)
            yield text[first:last].replace("\n", f" {EOS} ").split()
            first = last

    def prompt(self, text: str) -> np.ndarray:
        ids = self.encode(text)
        if not len(ids) and not self.ended:
            raise UserError("prompt: contains no symbol; give at least one")
        return self.after_end(ids)

    def cautions(self, prompt: str) -> Iterator[str]:
        known = self.ids
        words = (word for words in self._split(prompt) for word in words)
        unknown = list(dict.fromkeys(word for word in words if word not in known and word != UNK))
        if unknown:
            untrained = (
                "" if UNK in known else ", of which the network has learned nothing; a larger codec.min_count trains it"
            )
            yield f"prompt: {printable(', '.join(map(repr, unknown)), 300)} not in the vocabulary, read as {UNK}{untrained}"

    @property
    def opening(self) -> str:
        if self.ended:
            return ""
        return "\n" if EOS in self.ids else self.shown[1]

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Yield each word after a space, or at the beginning of a line without one."""
        between = ""
        for id in ids:
            word = self.shown[id] if id else UNK
            ends = id == self.end or word == EOS
            yield "\n" if ends else between + word
            between = "" if ends else " "
