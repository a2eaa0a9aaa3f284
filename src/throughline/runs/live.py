"""A live sequence: read and written step by step, put away in a file, and taken up again as if there had been no break."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from throughline.batches.carry import State
from throughline.data.codecs import Codec
from throughline.data.codecs.frames import Frames
from throughline.model.generation import Allowed
from throughline.model.generator import Generator
from throughline.plumbing import atomic, reading
from throughline.plumbing.errors import UserError

FORMAT = 2
KEY = "throughline"
PREDICTED = "predicted"
"""The name of the prediction for the next step among the tensors of a state."""
LARGEST_FILE = 2**30
OPENED = 1
"""The last id of a sequence of frames that has just begun; they have no ids, and 0 otherwise."""
TAIL = 4
"""The ids that are kept: a character in UTF-8 may be spread over so many."""
BLOCK = 1024
"""Draws from one seed. Draw n comes from the seed (seed, n // BLOCK), so that no history is needed to go on."""


class Live:
    """A sequence in the middle: the state after all its steps, and the prediction for the next one.

    All steps are taken one by one, by the same code. So wherever the sequence is interrupted, what follows is bit for bit
    what it would have been. After an end symbol the next sequence begins, from zeros unless the data are joined.

    Attributes:
        steps: how many have been read and written.
        draws: how many of them were drawn.
        seed: that of the draws.
        tail: the ids that were read or written last, up to 4; 0 for frames.

    Args:
        generator: in evaluation mode, on the CPU.
        codec: that of its steps.
        joined: whether the state is carried from a sequence to the next, as in the training data.
    """

    def __init__(self, generator: Generator, codec: Codec, joined: bool = False) -> None:
        self.generator, self.codec, self.joined = generator, codec, joined
        self.steps = self.draws = 0
        self.seed = 0
        self.tail: list[int] = []
        self._predicted: np.ndarray | None = None
        self._stepper = generator.stepper(self._zeros(), 1)
        self._from_zeros = True  # whether the stepper was built from them
        if codec.end is not None or (isinstance(codec, Frames) and codec.ended):
            self.begin()

    @property
    def last(self) -> int:
        """The id that was read or written last; 0 before the first, and of frames."""
        return self.tail[-1] if self.tail else 0

    @property
    def at_beginning(self) -> bool:
        """Whether a sequence has just begun: its end symbol was read, or its frame of zeros."""
        beginning = OPENED if self.generator.reads_frames else self.codec.end
        return self.last == beginning

    def begin(self) -> None:
        """Begin the next sequence: read its end symbol, or a frame of zeros; from a state of zeros unless data are joined.

        Raises:
            UserError: sequences have no beginning of their own.
        """
        if isinstance(self.codec, Frames) and self.codec.ended:
            if not self.joined:
                self._restart()
            self._take(np.zeros((1, self.codec.size), np.float32))
            self.tail = [OPENED]
        elif self.codec.end is None:
            raise UserError("begin: the texts of this checkpoint have no ends; take another live()")
        else:
            self._take(np.array([self.codec.end]))

    def _restart(self) -> None:
        """Go back to a state of zeros."""
        if self._from_zeros:
            self._stepper.restart([0])
        else:  # a stepper restarts only from the state with which it was built
            self._stepper, self._from_zeros = self.generator.stepper(self._zeros(), 1), True

    @torch.inference_mode()
    def _zeros(self) -> State:
        _, state = self.generator(self.generator.empty_inputs(1, 1))
        return tuple(torch.zeros_like(s) for s in state)

    def _take(self, step: np.ndarray) -> None:
        if not self.generator.reads_frames and step[0] == self.codec.end and not self.joined:
            self._restart()
        with np.errstate(over="ignore", invalid="ignore"):
            self._predicted = self._stepper.step(step).copy()
        self.steps += 1
        self.tail = [0] if self.generator.reads_frames else [*self.tail[1 - TAIL :], int(step[0])]

    def read(self, steps: Iterable[Any]) -> Iterator[float]:
        """Read ids, or frames (F,) as the codec has encoded them, and yield the nll of each in nats.

        The first step of a sequence without a beginning of its own has no prediction, and nothing is yielded for it.

        Raises:
            UserError: an id is not in the table, or a frame has another number of features.
        """
        for step in steps:
            one = self._one(step)
            if self._predicted is not None:
                yield self._nll(one)
            self._take(one)

    def close(self, step: Any) -> float:
        """Read the last frame of a sequence: the nll of it. What the network reads in its place is the next beginning.

        Raises:
            UserError: these are no sequences of frames.
        """
        if not (isinstance(self.codec, Frames) and self.codec.ended):
            raise UserError("close: is for sequences of frames; read the end symbol of others")
        nll = self._nll(self._one(step))
        self.begin()
        return nll

    def _one(self, step: Any) -> np.ndarray:
        """A step as the network reads it, (1,) or (1, F)."""
        frames = self.generator.reads_frames
        one, size = np.asarray(step)[None], self.codec.size
        if frames:
            fits = one.shape == (1, size) and one.dtype.kind in "biuf" and bool(np.isfinite(one).all())
        else:
            fits = one.shape == (1,) and one.dtype.kind in "iu" and 0 <= int(one[0]) < size
        if not fits:
            allowed = f"frames of {size:,} finite numbers" if frames else f"ids from 0 to {size - 1:,}"
            raise UserError(f"read: {reading.printable(step, 60)} is no step of this checkpoint; allowed are {allowed}")
        return one.astype(np.float32 if frames else np.int64)

    def _nll(self, step: np.ndarray) -> float:
        assert self._predicted is not None
        if self.generator.reads_frames:
            predicted, target = torch.from_numpy(self._predicted)[None], torch.from_numpy(step)[None]
            return float(self.generator.head.nll(predicted, target))
        logits = self._predicted[0].astype(np.float64)
        largest = logits.max()
        return float(np.log(np.exp(logits - largest).sum()) + largest - logits[int(step[0])])

    def probabilities(self) -> np.ndarray:
        """The probability of each symbol to come next (V,); the unknown symbol has none.

        Raises:
            UserError: nothing was read yet, or steps are frames.
        """
        if self._predicted is None or self.generator.reads_frames:
            raise UserError("probabilities: read a symbol first; frames have no list of them")
        logits = self._predicted[0].astype(np.float64)
        logits[0] = -np.inf
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        found: np.ndarray = shares
        return found

    def write(
        self, length: int | None = None, seed: int | None = None, allowed: Allowed | None = None, **draws: Any
    ) -> Iterator[Any]:
        """Draw steps and read them; yields ids until an end symbol, which is not yielded, or frames (F,).

        Args:
            length: how many; None is without end.
            seed: that of the draws; None goes on with the one that the sequence has.
            allowed: which symbols may follow which.
            draws: temperature, top_k, top_p and min_p as in `throughline.model.generation.generate`.
        """
        if seed is not None:
            self.seed, self.draws = seed, 0  # at once, so that a state that is kept before the first step has it
        return self._written(length, allowed, draws)

    def _written(self, length: int | None, allowed: Allowed | None, draws: dict[str, Any]) -> Iterator[Any]:
        if self._predicted is None:
            for _ in self.read(self.codec.prompt(self.codec.opening)):
                pass
        if allowed is not None:
            allowed.refuse_dead_end(self.last, self.codec)
        written = 0
        draw = self._drawing(**draws)
        while length is None or written < length:
            if self.draws % BLOCK == 0:
                draw = self._drawing(**draws)
            assert self._predicted is not None
            predicted = self._predicted
            if allowed is not None:
                predicted = allowed.among(predicted, np.array([self.last]))
            step = draw(predicted)
            self._take(step)
            self.draws += 1
            written += 1
            if self.codec.end is not None and step[0] == self.codec.end:
                return
            yield step[0]

    def _drawing(self, temperature: float = 1.0, top_k: Any = None, top_p: Any = None, min_p: Any = None) -> Any:
        """What draws the next steps: as if all draws of this block had been made in one go."""
        rng = np.random.default_rng((self.seed, self.draws // BLOCK))
        draw = self.generator.head.sampler(rng, 1, temperature, top_k, top_p, min_p)
        assert self._predicted is not None
        for _ in range(self.draws % BLOCK):
            draw(self._predicted)
        return draw

    @property
    def state(self) -> State:
        """The state after all steps, each tensor (L, 1, ...): that of the network, and of its ONNX graph."""
        return self._stepper.state

    @property
    def starts(self) -> bool:
        """Whether nothing was read yet."""
        return self._predicted is None

    def save(self, path: str | Path) -> None:
        """Put the sequence away: a safetensors file with the state and the prediction.

        Raises:
            UserError: nothing was read yet, or the file cannot be written.
        """
        if self._predicted is None:
            raise UserError(f"state_out={path}: nothing was read yet, so there is no state; give a prompt")
        tensors = dict(zip(self.generator.core.state_names, self.state, strict=True))
        tensors[PREDICTED] = torch.from_numpy(np.ascontiguousarray(self._predicted))
        about = {"format": FORMAT, "model": _digest(self.generator), "steps": self.steps, "draws": self.draws}
        about |= {"seed": self.seed, "tail": self.tail}
        content = safetensors.torch.save(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, metadata={KEY: json.dumps(about)}
        )
        try:
            atomic.write({Path(path): content})
        except OSError as error:
            raise UserError(f"state_out={path}: {error.strerror}; give a file that can be written") from None

    @classmethod
    def load(cls, path: str | Path, generator: Generator, codec: Codec, joined: bool = False) -> "Live":
        """Take up a sequence.

        Raises:
            UserError: the file cannot be read, is no state, or is that of another model.
        """
        try:
            content = reading.content(Path(path), LARGEST_FILE)
        except UserError as error:
            raise UserError(f"state={error}; give a file of state_out") from None
        live = cls(generator, codec, joined)
        try:
            size = int.from_bytes(content[:8], "little")
            about = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][KEY])
            tensors = safetensors.torch.load(content)
            tail = [*about["tail"]]
            counts = [*(about[name] for name in ("steps", "draws", "seed")), *tail]
            if (
                len(tail) > TAIL
                or about["format"] != FORMAT
                or not all(type(count) is int and 0 <= count < 2**63 for count in counts)
            ):
                raise ValueError
        except Exception:  # what is raised depends on what is wrong with the file
            raise UserError(f"state={path}: is no state of throughline, or damaged; give a file of state_out") from None
        if about["model"] != _digest(generator):
            raise UserError(
                f"state={path}: is that of another model, or of other weights; give the checkpoint that wrote it"
            )
        wanted = {**dict(zip(generator.core.state_names, live.state, strict=True))}
        with torch.inference_mode():
            predicted, _ = generator(generator.empty_inputs(1, 1))
        wanted[PREDICTED] = predicted[:, 0]
        unlike = wanted.keys() ^ tensors.keys()
        with suppress(KeyError):
            unlike |= {n for n, t in wanted.items() if (t.shape, t.dtype) != (tensors[n].shape, tensors[n].dtype)}
        if (
            unlike
            or any(id >= (OPENED + 1 if generator.reads_frames else codec.size) for id in tail)
            or not all(bool(tensor.isfinite().all()) for tensor in tensors.values())
        ):
            raise UserError(f"state={path}: damaged, it does not fit the model; give another file of state_out")
        (live.steps, live.draws, live.seed), live.tail = counts[:3], tail
        live._stepper = generator.stepper(tuple(tensors[name] for name in generator.core.state_names), 1)
        live._from_zeros = False
        live._predicted = tensors[PREDICTED].numpy().copy()
        return live


def _digest(generator: Generator) -> str:
    """Identifies weights: a state is good for these alone."""
    digest = hashlib.sha256()
    for name, weight in sorted(generator.state_dict().items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype} ".encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
