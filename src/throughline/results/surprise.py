"""What surprised a network in a text: lines for a terminal, rows of a table, and a page to look into."""

import base64
import itertools
import json
import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from throughline.data.codecs import Codec
from throughline.data.line import Line
from throughline.evaluation.scoring import Calibration, Scores, traced
from throughline.model.generator import Generator
from throughline.plumbing.reading import printable
from throughline.results.page import rendered

SCRIPTS = ("coloured.js", "score.js")
CONTEXT = 24
"""The characters before a surprising place."""
TRACES = 3 * 2**20
"""The most bytes of states on a page: one for each cell at each place."""
POINTS = 120
"""The points of the curve of the loss by place."""


class Surprise:
    """The scores of a line, as people read them.

    Args:
        scores: of all targets of the line.
        line, codec: whose steps were scored.
        where: names the data.
        worst: how many places and sequences are listed.
    """

    def __init__(self, scores: Scores, line: Line, codec: Codec, where: str, worst: int) -> None:
        self.scores, self.line, self.codec, self.where, self.worst = scores, line, codec, where, worst
        self.apart = not line.joined

    # ---- Lines for a terminal

    def summary(self) -> Iterator[str]:
        """How the line was predicted as a whole."""
        nll = float(self.scores.nll.mean())
        if self.line.frames:
            yield f"{self.where}: {len(self.scores):,} frames scored, nll {nll:.4f} nats"
            return
        ppl = f", perplexity {math.exp(nll):.3f}" if nll < 700 else ""
        yield f"{self.where}: {len(self.scores):,} symbols scored, nll {nll:.4f} nats ({nll / math.log(2):.4f} bits{ppl})"
        right = float((self.scores.rank == 1).mean())
        yield (
            f"the likeliest symbol was right in {right:.1%} of all places, and had a mean probability of "
            f"{float(self.scores.probability[:, 0].mean()):.1%}; calibration error {Calibration.of(self.scores).error:.1%}"
        )

    def report(self) -> Iterator[str]:
        """The most surprising places, and of sequences also these."""
        yield ""
        yield "most surprising places:"
        for number in self.worst_places.tolist():
            yield "  " + self._told(number)
        if self.apart:
            yield ""
            yield "most surprising sequences, by the mean of their steps:"
            for case in self.cases[: self.worst]:
                steps = f"{case['nll']:.3f} nats a step, {case['steps']:,} steps"
                yield f"  {case['name']}: {steps}; most at {self._told(case['worst'])}"

    def _told(self, number: int) -> str:
        where, nll = self.place(number), float(self.scores.nll[number])
        if self.line.frames:
            return f"{where}: {nll:.2f} nats"
        before, piece = self._context(number)
        expected = self._expected(number)
        return printable(f"{where}: {nll:.2f} nats, ...{before}[{piece}], expected {expected}", 300)

    def place(self, number: int) -> str:
        """Where a target stands: in the text, or in its sequence."""
        place = int(self.scores.place[number])
        if not self.apart:
            return f"{place:,}"
        sequence = int(self._sequence[number])
        return f"{self.name(sequence)}, step {place - int(self.line.edges[sequence]):,}"

    def name(self, sequence: int) -> str:
        """What a sequence is called: as in the data, or its number from 1 on."""
        return str(sequence + 1) if self.line.names is None else printable(self.line.names[sequence])

    def _expected(self, number: int) -> str:
        ids, shares = self.scores.likeliest[number, :3].tolist(), self.scores.probability[number, :3].tolist()
        return ", ".join(f"{self.label(id)!r} {share:.0%}" for id, share in zip(ids, shares, strict=True))

    def _context(self, number: int) -> tuple[str, str]:
        """The text before a place, and the symbol there."""
        first = max(int(self._begins[number]), int(self.scores.place[number]) - CONTEXT)
        ids = np.asarray(self.line.steps[first : int(self.scores.place[number])]).tolist()
        return self.codec.decode(ids)[-CONTEXT:].replace("\n", "\\n"), self.label(int(self._ids[number])).replace(
            "\n", "\\n"
        )

    # ---- Places and sequences

    @cached_property
    def _ids(self) -> np.ndarray:
        return np.asarray(self.line.at(self.scores.place))

    @cached_property
    def _sequence(self) -> np.ndarray:
        """(N,) the number of the sequence of each target."""
        return np.searchsorted(self.line.ends, self.scores.place)

    @cached_property
    def _begins(self) -> np.ndarray:
        """(N,) the first place that may be shown before each target."""
        if self.line.joined:
            return np.zeros(len(self.scores), np.int64)
        begins: np.ndarray = self.line.edges[:-1][self._sequence] + int(self.line.ended)
        return begins

    @cached_property
    def worst_places(self) -> np.ndarray:
        """The numbers of the targets with the highest nll, the highest first."""
        order = np.argsort(-self.scores.nll, kind="stable")
        return order[: self.worst]

    @cached_property
    def cases(self) -> list[dict[str, Any]]:
        """Sequences that are not joined, the highest mean nll first."""
        first = np.concatenate([[0], np.flatnonzero(np.diff(self._sequence)) + 1])
        last = np.append(first[1:], len(self.scores))
        found = []
        for number, (a, b) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
            nll = self.scores.nll[a:b]
            worst = a + int(nll.argmax())
            found.append({"name": self.name(number), "nll": float(nll.mean()), "steps": b - a, "first": a, "worst": worst})
        return sorted(found, key=lambda case: -float(case["nll"]))

    def label(self, id: int) -> str:
        """A symbol by itself; a byte that is no character as its number, and the end of a sequence as a word."""
        text = self._labels.get(id)
        if text is None:
            text = self.codec.decode([id])
            if text in ("", "\N{REPLACEMENT CHARACTER}") and id:
                text = f"\\x{id - 1:02x}" if self.codec.size <= 258 else f"<{id}>"
            self._labels[id] = text
        return text

    @cached_property
    def _labels(self) -> dict[int, str]:
        end = {} if self.codec.end is None else {self.codec.end: "(end)"}
        return {0: "\N{REPLACEMENT CHARACTER}", **end}

    # ---- The table

    @property
    def columns(self) -> list[str]:
        expected = [
            f"{name}_{k + 1}" for k in range(self.scores.likeliest.shape[1]) for name in ("likeliest", "probability")
        ]
        return ["place", *(["sequence"] if self.apart else []), "symbol", "nll", "rank", *expected]

    def rows(self) -> Iterator[list[Any]]:
        """A row per target, with the columns above."""
        for number, (place, nll, rank) in enumerate(
            zip(self.scores.place.tolist(), self.scores.nll.tolist(), self.scores.rank.tolist(), strict=True)
        ):
            expected = []
            pairs = zip(self.scores.likeliest[number].tolist(), self.scores.probability[number].tolist(), strict=True)
            for id, share in pairs:
                expected += [self.label(id), share]
            case = [self.name(int(self._sequence[number]))] if self.apart else []
            symbol = "" if self.line.frames else self.label(int(self._ids[number]))
            yield [place, *case, symbol, nll, rank, *expected]

    # ---- The page

    def shown(self, first: int, count: int) -> np.ndarray:
        """The numbers of the targets that are shown."""
        return np.arange(first, min(len(self.scores), first + count))

    def lead(self, shown: np.ndarray) -> str:
        """The first symbol of a text, which nothing predicts, if the next one is shown."""
        alone = int(shown[0]) == 0 and not self.line.ended
        return self.codec.decode(np.asarray(self.line.steps[:1]).tolist()) if alone else ""

    def pieces(self, shown: np.ndarray) -> list[str]:
        """The text of targets that stand side by side, a piece each."""
        lead = np.asarray(self.line.steps[:1]).tolist() if self.lead(shown) else []
        stream = self.codec.stream([*lead, *self._ids[shown].tolist()])
        pieces = list(itertools.islice(stream, len(lead), len(lead) + len(shown)))
        return [piece or self.label(int(self._ids[number])) for piece, number in zip(pieces, shown.tolist(), strict=True)]

    def page(self, generator: Generator, shown: np.ndarray, checkpoint: str) -> str:
        """A page that is complete in itself: the text coloured, what was expected, and the cells of the state."""
        summary = list(self.summary())
        folder = Path(__file__).parent
        script = "".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)
        data = json.dumps(self._data(generator, shown), ensure_ascii=True, separators=(",", ":"))
        return rendered(
            "score.html.jinja",
            title=f"What surprised {checkpoint}",
            summary=summary,
            passed=int(shown[0]),
            count=len(shown),
            total=len(self.scores),
            data=Markup(data.replace("<", "\\u003c")),  # as a string of JSON it cannot end the script
            script=Markup(script),
        )

    def _data(self, generator: Generator, shown: np.ndarray) -> dict[str, Any]:
        part = self.scores.at(shown)
        own = self._ids[shown].tolist()
        named = sorted({*part.likeliest.flatten().tolist(), *own})
        states = traced(generator, self.line, part.place[: max(1, TRACES // _cells(generator))])
        numbers = {int(number): index for index, number in enumerate(shown.tolist())}
        title, curve = self._curve()
        return {
            "lead": self.lead(shown),
            "pieces": self.pieces(shown),
            "ids": own,
            "nll": [round(value, 3) for value in part.nll.tolist()],
            "rank": part.rank.tolist(),
            "likeliest": part.likeliest.tolist(),
            "probability": [[float(f"{share:.3g}") for share in row] for row in part.probability.tolist()],
            "labels": {id: self.label(id) for id in named},
            "states": [
                {
                    "name": name if name == "h" else f"tanh({name})",
                    "layers": values.shape[1],
                    "cells": values.shape[2],
                    "steps": len(values),
                    "values": base64.b64encode(np.rint(127 * values).astype(np.int8).tobytes()).decode(),
                }
                for name, values in states.items()
            ],
            "begins": self._beginnings(shown),
            "worst": [self._place(number, numbers) for number in self.worst_places.tolist()],
            "cases": [self._case(case, numbers) for case in self.cases[: self.worst]] if self.apart else [],
            "curve": {"title": title, "points": curve},
        }

    def _beginnings(self, shown: np.ndarray) -> list[list[Any]]:
        """Where sequences begin among those shown, and their names."""
        if not self.apart:
            return []
        number = self._sequence[shown]
        first = np.concatenate([[0], np.flatnonzero(np.diff(number)) + 1])
        return [[int(at), self.name(int(number[at]))] for at in first]

    def _place(self, number: int, numbers: dict[int, int]) -> dict[str, Any]:
        before, piece = self._context(number)
        return {
            "at": numbers.get(number),
            "place": self.place(number),
            "nll": round(float(self.scores.nll[number]), 2),
            "before": before,
            "piece": piece,
            "expected": self._expected(number),
        }

    def _case(self, case: dict[str, Any], numbers: dict[int, int]) -> dict[str, Any]:
        worst = self._place(case["worst"], numbers)
        steps = {"name": case["name"], "nll": round(case["nll"], 3), "steps": case["steps"]}
        return {**steps, "at": numbers.get(case["first"]), "worst": worst}

    def _curve(self) -> tuple[str, list[list[float]]]:
        """The mean nll by place: of sequences, by the number of the step in them; else along the text."""
        if self.apart:
            step = self.scores.place - self.line.edges[:-1][self._sequence]
            count = np.bincount(step)[1:]
            mean = np.bincount(step, self.scores.nll)[1:] / np.maximum(count, 1)
            return "loss by step of a sequence", [
                [k + 1, round(float(mean[k]), 4)] for k in np.flatnonzero(count)[:500].tolist()
            ]
        edges = np.linspace(0, len(self.scores), min(POINTS, len(self.scores)) + 1).astype(int)
        return "loss along the text", [
            [int(self.scores.place[a]), round(float(self.scores.nll[a:b].mean()), 4)]
            for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        ]


def _cells(generator: Generator) -> int:
    """The cells of a state of one row."""
    return len(generator.core.state_names) * generator.core.num_layers * generator.core.hidden_size
