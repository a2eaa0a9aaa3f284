"""A trained generator in use: from a checkpoint, from an exported file, or from a run that has just ended."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from throughline.config import all_readings
from throughline.data.codecs import Codec
from throughline.data.corpus import Corpus
from throughline.data.sources import Source
from throughline.evaluation.measure import BySequence, best_device, measure
from throughline.evaluation.protocol import Evaluation
from throughline.evaluation.readings import Reading
from throughline.evaluation.threads import fastest_threads, in_threads
from throughline.model import generation
from throughline.model.generator import Generator
from throughline.model.settings import Head, Model
from throughline.plumbing.errors import UserError
from throughline.runs.checkpoint import load_parts
from throughline.settings import from_plain


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
        prompt: str | None = None,
        length: int = 500,
        *,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> str:
        """The prompt and what follows it; for the arguments see `throughline.model.generation.generate`.

        Args:
            prompt: None is a line break, or the first symbol of a vocabulary without one; of sequences with ends, nothing.
            length: how many symbols follow; a sequence with an end has at most so many, and stops there.
            seed: None draws another text each time.

        Raises:
            UserError: the prompt contains a symbol that the codec does not know.
        """
        options: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        options["seed"] = secrets.randbits(32) if seed is None else seed
        prompt = self.codec.opening if prompt is None else prompt
        opening, end = self.codec.prompt(prompt), self.codec.end
        if end is None:
            steps = generation.generate(self.generator, opening, length, **options)
            return prompt + "".join(self.codec.stream(token for (token,) in steps))
        (sequence,) = generation.generate_sequences(self.generator, opening, end, length, **options)
        return self.codec.decode([*opening[1:].tolist(), *(token for token in sequence if token != end)])

    def probabilities(self, prompt: str) -> dict[str, float]:
        """The probability that each symbol comes next after the prompt, the likeliest first; the prompt is read from zeros.

        The key of the end of a sequence is the empty text.

        Raises:
            UserError: the prompt contains a symbol that the codec does not know.
        """
        with torch.inference_mode():
            predicted, _ = self.generator(torch.from_numpy(self.codec.prompt(prompt).astype(np.int64))[None])
        shares = predicted[0, -1, 1:].double().softmax(dim=0).tolist()  # the unknown symbol is never generated
        ordered = [id + 1 for id in np.argsort(shares)[::-1].tolist()]
        return {"" if id == self.codec.end else self.codec.decode([id]): shares[id - 1] for id in ordered}

    def score(self, text: str) -> list[float]:
        """The negative log-likelihood of each symbol but the first, in nats, given all those before it.

        Of a sequence with an end it is that of every symbol and of the end, so their sum is that of the whole sequence.

        Raises:
            UserError: the text contains a symbol that the codec does not know.
        """
        ids = self.codec.prompt(text).astype(np.int64)
        steps = torch.from_numpy(ids if self.codec.end is None else np.append(ids, self.codec.end))[None]
        if steps.shape[1] == 1:
            return []
        with torch.inference_mode():
            nll, _, _ = self.generator.score(steps[:, :-1], steps[:, 1:])
        return [float(value) for value in nll[0]]

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
            UserError: the data cannot be read, or they have no such split.
        """
        corpus = data if isinstance(data, Corpus) else self.corpus(data)
        chosen = all_readings({reading.name: reading for reading in readings})
        line, device = corpus.line(split), best_device()
        threads = torch.get_num_threads()
        if device.type == "cpu":
            rows = min(evaluation.streams, line.num_targets)
            tokens = torch.ones(rows, min(64, line.num_targets), dtype=torch.int64)
            with torch.inference_mode():
                threads = fastest_threads(lambda: self.generator.score(tokens, tokens))
        try:
            with in_threads(threads):
                scores = {"by_sequence": by_sequence, "split": split, "advance": advance}
                return measure(self.generator, line, chosen, evaluation, device, **scores)  # type: ignore[arg-type]
        finally:
            self.generator.cpu()

    def corpus(self, data: Source | None = None) -> Corpus:
        """Read data with the codec of this generator; None reads the data of the run, which must be unchanged.

        Raises:
            UserError: the data cannot be read, or have changed.
        """
        if data is not None:
            return data.read(self.codec)
        if "source" not in self.data:
            raise UserError(
                "data: the file does not record its training data; give data=..., for example data=text data.path=FILE"
            )
        try:
            source: Source = from_plain(Source, self.data["source"], where="data.")  # type: ignore[type-abstract]
            corpus = source.read(self.codec)
        except UserError as error:
            raise UserError(f"the data of the run: {str(error).splitlines()[0]}; or give data=...") from None
        if corpus.fingerprint["tokens_sha256"] != self.data["tokens_sha256"]:
            raise UserError(
                f"data: {corpus.fingerprint['source']} has changed since the run was trained; "
                "give data=... to measure on the current data"
            )
        return corpus


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
    """The part of a checkpoint that describes its training data: of data in memory, their name and hash alone."""
    about = {"origin": corpus.fingerprint["source"], "tokens_sha256": corpus.fingerprint["tokens_sha256"]}
    return about if corpus.source is None else {**about, "source": corpus.source}


generate, evaluate = Trained.generate, Trained.evaluate
