"""A trained generator in use: from a checkpoint, from an exported file, or from a run that has just ended."""

import csv
import io
import secrets
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain, islice, tee
from pathlib import Path
from typing import Any

import numpy as np
import torch

from throughline.config import all_readings
from throughline.data.codecs import Codec
from throughline.data.codecs.frames import Frames
from throughline.data.corpus import Corpus
from throughline.data.sources import Source
from throughline.evaluation.measure import BySequence, best_device, by_text, measure
from throughline.evaluation.protocol import Evaluation
from throughline.evaluation.readings import Reading
from throughline.evaluation.threads import fastest_threads, in_threads
from throughline.model import generation
from throughline.model.generation import Allowed
from throughline.model.generator import Generator
from throughline.model.settings import Head, Model
from throughline.plumbing import reading
from throughline.plumbing.errors import UserError
from throughline.runs.checkpoint import joined_of, load_parts
from throughline.runs.live import Live
from throughline.settings import from_plain

GIVE_DATA = "give data=..., for example data=text data.path=FILE"
LARGEST_TABLE = 2**26
"""The most bytes of a table of pairs."""


@dataclass(frozen=True)
class Trained:
    """A trained generator.

    Attributes:
        generator: a `torch.nn.Module` on the CPU, in evaluation mode.
        codec: turns text into the steps of the generator, and steps into text.
        data: the origin of its data, as plain values; empty for an exported file.
    """

    generator: Generator
    codec: Codec
    data: dict[str, Any] = field(default_factory=dict, repr=False)

    def generate(
        self,
        prompt: str | np.ndarray | None = None,
        length: int | None = None,
        *,
        max_length: int | None = None,
        stop: str | None = None,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        seed: int | None = None,
    ) -> Any:
        """A text that begins with the prompt; with a codec of sequences with ends, one sequence; or frames (T, F).

        Args:
            prompt: None is nothing for sequences with ends, else a line break, or the first symbol if there is none.
                Of frames, an array (N, F) in the units of the data, or None.
            length: the symbols after the prompt, by default 500; only for texts without ends. Of frames it must be given.
            max_length: the most symbols after the prompt, by default 1,000; only for sequences with ends.
            stop: the text ends before the first symbol after the prompt in which this begins; only for texts without ends.
            temperature, top_k, top_p, min_p: see `throughline.model.generation.generate`.
            seed: None draws another text each time.

        Raises:
            UserError: the prompt contains a symbol that is not known, or an argument is of the other kind of data.
        """
        draws: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
        draws["seed"] = secrets.randbits(32) if seed is None else seed
        if self.codec.steps != "ids":
            return self.frames(1, prompt, length, max_length, stop, **draws)[0]
        self._caution(prompt if isinstance(prompt, str) else "")
        return next(self.sequences(1, prompt, length, max_length, stop, **draws)).text

    def sequences(
        self,
        num_sequences: int,
        prompt: Any = None,
        length: int | None = None,
        max_length: int | None = None,
        stop: str | None = None,
        *,
        seed: int,
        **draws: Any,
    ) -> "Iterator[Generated]":
        """Several texts or sequences, one after the other; the arguments are those of `generate`."""
        codec, longest = self.codec, self.longest(length, max_length, stop)
        opening = codec.opening if prompt is None else prompt
        begin = codec.prompt(opening)
        given = begin[codec.end is not None :].tolist()

        def generated(ids: list[int]) -> Generated:
            whole = codec.end is None or ids[-1] == codec.end
            ids = ids[:-1] if ids[-1] == codec.end else ids
            return Generated([*given, *ids], opening + "".join(continued(codec, begin, ids)), whole)

        def stopped(stop: str, number: int) -> Generated:
            steps = generation.generate(self.generator, begin, longest, seed=(seed, number), **draws)
            shown, drawn = tee(token for (token,) in steps)
            pieces = [*before(stop, continued(codec, begin, shown))]
            return Generated([*given, *islice(drawn, len(pieces))], opening + "".join(pieces), True)

        if stop is not None:
            return (stopped(stop, number) for number in range(num_sequences))  # one by one, because each stops elsewhere
        drawn = generation.sequences(self.generator, begin, longest, num_sequences, end=codec.end, seed=seed, **draws)
        return map(generated, drawn)

    def frames(
        self,
        num_sequences: int,
        prompt: Any = None,
        length: int | None = None,
        max_length: int | None = None,
        stop: str | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        *,
        temperature: float = 0.8,
        seed: int,
    ) -> np.ndarray:
        """Frames (S, T, F) in the units of the data, with the prompt; the arguments are those of `generate`.

        Raises:
            UserError: these are no frames, `length` is missing, or an argument is for symbols.
        """
        if not isinstance(self.codec, Frames):
            raise UserError("frames: this checkpoint generates symbols")
        for name, value in {"max_length": max_length, "stop": stop, "top_k": top_k, "top_p": top_p, "min_p": min_p}.items():
            if value is not None:
                raise UserError(f"{name}={value}: is for symbols, and this checkpoint generates frames; leave it out")
        if length is None:
            raise UserError("length: frames have no end; give length=..., the number of frames after the prompt")
        if isinstance(prompt, str):
            raise UserError(f"prompt={prompt!r}: this checkpoint continues frames; give an array (N, F)")
        given = np.zeros((0, self.codec.size)) if prompt is None else np.asarray(prompt)
        try:
            begin = self.codec.prompt(given)
        except UserError as error:
            raise UserError(f"prompt: {str(error).removeprefix('data: ')}") from None
        steps = generation.frames(self.generator, begin, length, num_sequences, temperature=temperature, seed=seed)
        known = begin[len(begin) - len(given) :]
        whole = [self.codec.raw(np.concatenate([known, sequence])) for sequence in steps]
        return np.stack(whole)

    def stream(
        self, prompt: str | None = None, length: int | None = None, stop: str | None = None, **draws: Any
    ) -> Iterator[str]:
        """The first of these texts, piece by piece while it is generated; only for texts without ends."""
        prompt = self.codec.opening if prompt is None else prompt
        begin = self.codec.prompt(prompt)
        steps = generation.generate(self.generator, begin, self.longest(length, None, stop), **draws)
        pieces = continued(self.codec, begin, (token for (token,) in steps))
        return chain([prompt], pieces if stop is None else before(stop, pieces))

    def live(self, state: str | Path | None = None, joined: bool | None = None) -> Live:
        """A sequence that is read and written step by step; from a file of `Live.save`, one that goes on.

        Args:
            state: the file.
            joined: whether the state is carried over an end symbol. None: as in the training data.

        Raises:
            UserError: the file is no state of this generator.
        """
        joined = joined_of(self.data) if joined is None else joined
        parts = self.generator, self.codec, joined
        return Live(*parts) if state is None else Live.load(state, *parts)

    def allowed(self, path: str) -> Allowed:
        """Which symbols may follow which: the pairs of a CSV file, or of the training data for "seen".

        Of training data, pairs that lead to a symbol after which nothing was seen are left out.

        Raises:
            UserError: the file cannot be read, holds a symbol that is not known, or lets nothing follow a symbol.
        """
        codec = self.codec
        if codec.steps != "ids":
            raise UserError(f"allowed={path}: is for symbols, and this checkpoint generates frames; leave it out")
        if path == "seen":
            found = Allowed.seen(self.corpus(hint="give allowed=FILE").train.steps, codec.size).without_dead_ends()
            if found.empty:
                raise UserError("allowed=seen: no pair of the training data can go on; give allowed=FILE")
            return found
        found = Allowed(np.array([*self._pairs(path)], np.int64).reshape(-1, 2), codec.size)
        dead = found.dead_ends(codec.end)
        if len(dead):
            symbol = "the beginning" if dead[0] == codec.end else repr(codec.decode([int(dead[0])]))
            raise UserError(f"allowed={path}: nothing may follow {symbol}; give a row with it in the column from")
        return found

    def _pairs(self, path: str) -> Iterator[tuple[int, int]]:
        """The ids of the pairs of a CSV file."""
        try:
            content = reading.text(Path(path), LARGEST_TABLE)
        except UserError as error:
            raise UserError(f"allowed={error}; give a CSV file, or allowed=seen") from None
        rows = csv.DictReader(io.StringIO(content, newline=""), strict=True)
        try:
            if not {"from", "to"} <= {*(rows.fieldnames or ())}:
                raise UserError(f"allowed={path}: has no columns from and to; give a CSV file with these two")
            for row in rows:
                at = f"allowed={path}: line {rows.line_num}"
                if None in row:
                    raise UserError(f"{at} has more cells than columns; put a symbol with a comma in quotes")
                yield self._id(row["from"], f"{at}: from"), self._id(row["to"], f"{at}: to")
        except csv.Error as error:
            raise UserError(f"allowed={path}: after line {rows.line_num}: {error}; give a CSV file") from None

    def _id(self, cell: str | None, where: str) -> int:
        """The symbol in a cell; an empty one is the beginning or the end of a sequence."""
        codec = self.codec
        if cell is None:
            raise UserError(f"{where} is missing; give a cell in each row")
        if not cell:
            if codec.end is None:
                raise UserError(f"{where} is empty; give one symbol, because these texts have no beginning and no end")
            return codec.end
        try:
            ids = codec.prompt(cell)[codec.end is not None :].tolist()
        except UserError as error:
            raise UserError(f"{where}: {str(error).removeprefix('prompt: ')}") from None
        for unknown in codec.cautions(cell):
            raise UserError(f"{where}: {unknown.removeprefix('prompt: ')}; give a symbol of the vocabulary")
        if len(ids) != 1:
            raise UserError(f"{where} is {reading.printable(cell, 60)!r}; give one symbol")
        return int(ids[0])

    def longest(self, length: int | None, max_length: int | None, stop: str | None) -> int:
        """The most symbols after a prompt.

        Raises:
            UserError: an argument is of the other kind of data, or `stop` is empty.
        """
        if stop == "":
            raise UserError("stop: is empty; give a text")
        if self.codec.end is None:
            if max_length is not None:
                raise UserError(f"max_length={max_length}: the texts of this checkpoint have no ends; give length=...")
            return 500 if length is None else length
        if length is not None:
            raise UserError(f"length={length}: the sequences of this checkpoint end by themselves; give max_length=...")
        if stop is not None:
            raise UserError(f"stop={stop!r}: the sequences of this checkpoint end by themselves; leave it out")
        return 1000 if max_length is None else max_length

    def probabilities(self, prompt: str) -> dict[str, float]:
        """The probability that each symbol comes next after the prompt, the likeliest first; the prompt is read from zeros.

        That the sequence ends here has the key "", which is no symbol.

        Raises:
            UserError: the prompt contains a symbol that the codec does not know.
        """
        if self.codec.steps != "ids":
            raise UserError("probabilities: frames have no list of them; use score")
        self._caution(prompt)
        with torch.inference_mode():
            predicted, _ = self.generator(torch.from_numpy(self.codec.prompt(prompt).astype(np.int64))[None])
        shares = predicted[0, -1, 1:].double().softmax(dim=0).tolist()  # the unknown symbol is never generated
        ids = [1 + place for place in np.argsort(shares)[::-1].tolist()]
        return {"" if id == self.codec.end else self.codec.decode([id]): shares[id - 1] for id in ids}

    def score(self, text: Any) -> list[float]:
        """The negative log-likelihood of each symbol but the first, in nats, given all those before it.

        With ends, that of each symbol and of the end: together that of the whole sequence. Of frames (N, F), that of each
        frame; the first one has none if the generator was trained on one long sequence.

        Raises:
            UserError: the text contains a symbol that the codec does not know.
        """
        if self.codec.steps != "ids":
            if isinstance(text, str):
                raise UserError(f"text={text!r}: this checkpoint scores frames; give an array (N, F)")
            frames = torch.from_numpy(self.codec.prompt(text).astype(np.float32))[None]
            if frames.shape[1] == 1:
                return []
            with torch.inference_mode():
                return [float(value) for value in self.generator.nll(frames[:, :-1], frames[:, 1:])[0][0]]
        self._caution(text)
        ids = self.codec.prompt(text).astype(np.int64).tolist()
        steps = torch.tensor([ids if self.codec.end is None else [*ids, self.codec.end]])
        if steps.shape[1] == 1:
            return []
        with torch.inference_mode():
            nll, _ = self.generator.nll(steps[:, :-1], steps[:, 1:])
        return [float(value) for value in nll[0]]

    def _caution(self, prompt: str | None) -> None:
        """Warn whoever called the method about symbols of a prompt that are not read as they are written."""
        for caution in self.codec.cautions(prompt or ""):
            warnings.warn(caution, stacklevel=3)

    def evaluate(
        self,
        data: Source | Corpus | None = None,
        split: str = "val",
        readings: Sequence[Reading] = (),
        evaluation: Evaluation = Evaluation(),  # noqa: B008  # frozen
        advance: Callable[[int, int], None] = lambda done, more: None,
        by_sequence: BySequence | None = None,
    ) -> dict[str, float]:
        """The exact metrics on a split of some data.

        Args:
            data: None is the data of the run.
            split: "train", "val", "test", or "all".
            readings: ways to measure, in addition to `carried` and `reset`.
            evaluation: the settings that all readings share.
            advance, by_sequence: see `throughline.evaluation.measure.measure`.

        Raises:
            UserError: the data cannot be read, they have another codec, or no such split.
        """
        corpus = data if isinstance(data, Corpus) else self.corpus(data)
        if not corpus.codec.encodes_as(self.codec):
            raise UserError(
                f"data: {corpus.fingerprint['source']} was encoded with another codec than that of the generator; "
                "give Corpus.of(trained.codec, ...)"
            )
        chosen = all_readings({reading.name: reading for reading in readings})
        line, device = corpus.line(split), best_device()
        threads = torch.get_num_threads()
        if device.type == "cpu":
            rows = min(evaluation.streams, line.num_targets)
            steps = self.generator.empty_inputs(rows, min(64, line.num_targets))
            with torch.inference_mode():
                threads = fastest_threads(lambda: self.generator.score(steps, steps))
        try:
            with in_threads(threads):
                scores = {"by_sequence": by_sequence, "split": split, "advance": advance}
                metrics = measure(self.generator, line, chosen, evaluation, device, **scores)  # type: ignore[arg-type]
                return metrics | by_text(metrics, line, self.codec, split)
        finally:
            self.generator.cpu()

    def source(self, path: str | None = None, hint: str = GIVE_DATA) -> Source:
        """The settings by which the data of the run were read, or another file is read in the same way.

        Args:
            hint: what to do if they are not recorded.

        Raises:
            UserError: they are not recorded, or name no file.
        """
        if "source" not in self.data:
            raise UserError(f"data: the file does not record its training data; {hint}")
        try:
            source: Source = from_plain(Source, self.data["source"], where="data.")  # type: ignore[type-abstract]
        except UserError as error:
            raise _of_the_run(error, hint) from None
        if path is None:
            return source
        names = {f.name for f in fields(source)}  # type: ignore[arg-type]  # every source is a dataclass
        if "path" not in names:
            raise UserError(f"path={path}: the data of the run, {source.name}, are no file; give data=... instead")
        others = {name: None for name in ("val_path", "test_path", "lengths_path") if name in names}
        other: Source = replace(source, path=path, **others)  # type: ignore[type-var]
        return other

    def corpus(self, data: Source | None = None, hint: str = GIVE_DATA) -> Corpus:
        """Read data with the codec of this generator; None reads the data of the run, which must be unchanged.

        Args:
            data: what to read.
            hint: what to do if those of the run cannot be read.

        Raises:
            UserError: the data cannot be read, have changed, or have sequences with ends, which the generator does not know.
        """
        if data is not None:
            corpus = data.read(self.codec)
            if corpus.codec.size != self.codec.size:
                raise UserError(
                    "data: are sequences with ends, and the generator was trained without an end symbol; "
                    "give data=text without a separator, or train on sequences"
                )
            return corpus
        source = self.source(hint=hint)
        try:
            corpus = source.read(self.codec)
        except UserError as error:
            raise _of_the_run(error, hint) from None
        if corpus.fingerprint["tokens_sha256"] != self.data["tokens_sha256"]:
            raise UserError(f"data: {corpus.fingerprint['source']} has changed since the run was trained; {hint}")
        return corpus


def _of_the_run(error: UserError, hint: str) -> UserError:
    return UserError(f"the data of the run: {str(error).splitlines()[0]}; or {hint}")


@dataclass(frozen=True)
class Generated:
    """A generated sequence, with its prompt.

    Attributes:
        ids: its steps, without an end symbol.
        text: the same as text.
        whole: False if it has ends and was cut before its end.
    """

    ids: list[int]
    text: str
    whole: bool


def continued(codec: Codec, begin: np.ndarray, ids: Iterable[int]) -> Iterator[str]:
    """The text of the ids after a prompt whose ids are `begin`, piece by piece as they arrive."""
    return islice(codec.stream(chain(begin.tolist(), ids)), len(begin), None)


def before(stop: str, pieces: Iterable[str]) -> Iterator[str]:
    """Yield the pieces of a text before the first one in which `stop` begins, each as soon as this is certain."""
    held: list[str] = []
    for piece in pieces:
        held.append(piece)
        text = "".join(held)
        found = text.find(stop)
        # Where `stop` begins, or may have begun: a piece may be a part of it, or a part of a character in UTF-8.
        at = found if found >= 0 else next(i for i in range(len(text) + 1) if stop.startswith(text[i:]))
        while at and len(held[0]) <= at:
            at -= len(held[0])
            yield held.pop(0)
        if found >= 0:
            return
    yield from held


def load(path: str | Path, model: Model | None = None, codec: Codec | None = None, head: Head | None = None) -> Trained:
    """The generator of a checkpoint (`.ckpt`) or an exported file (`.safetensors`).

    Args:
        path: the file.
        model, codec, head: needed only for a user's own classes; give the same choices as in training.

    Raises:
        UserError: the file is damaged, of another kind, or does not match the choices.
    """
    return Trained(*load_parts(path, model, codec, head))


def about_data(corpus: Corpus) -> dict[str, Any]:
    """The part of a checkpoint that describes its training data: of data in memory, their name, hash and `joined` alone."""
    about = {"origin": corpus.fingerprint["source"], "tokens_sha256": corpus.fingerprint["tokens_sha256"]}
    about["joined"] = corpus.train.joined
    return about if corpus.source is None else {**about, "source": corpus.source}


generate, evaluate = Trained.generate, Trained.evaluate
