"""An answer is given only if the seeds support it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from throughline.results.answers import UNSUPPORTED, answers
from throughline.results.comparison import Comparison, Member
from throughline.results.metrics import METRICS
from throughline.results.page import headline
from throughline.results.run import Run
from throughline.runs.record import Record

BETTER, WORSE, AMONG = [1.50, 1.51, 1.52], [1.60, 1.61, 1.62], [1.515, 1.55, 1.56]


RECORD = Record(
    **{"name": "a", "regime": "stateful", "model": "lstm", "seed": 1, "shape": (1, 1), "limits": {}, "epochs": 1.0},
    **{"tokens": 100, "steps": 10, "updates": 10, "seconds": 1.0, "wall_seconds": 1.0, "tokens_per_second": 1.0},
    **{"train_targets": 1000, "reset_every": 256, "positions": 1, "flops": 1, "matrix_rate": 1.0},
    **{"peak_memory_bytes": 1, "parameters": 1, "precision": "32-true", "device": "cpu", "devices": 1},
    **{"data": {}, "versions": {}},
)


def fake(regime: str, nlls: list[float], seconds: float = 60.0, updates: float = 1000.0, **settings: Any) -> Member:
    """A member whose seeds ended with these losses."""
    runs = []
    for seed, nll in enumerate(nlls):
        figures = {figure.key: 1.0 for figure in METRICS} | {
            "val/nll": nll,
            "tokens_per_second": 100.0 * settings.get("streams", 1),
            "updates": updates,
        }
        flat = {f"regime.{key}": value for key, value in settings.items()} | {"seed": seed}
        curve = [{"tokens": 10.0, "val/nll": 4.0}, {"tokens": 100.0, "val/nll": nll, "train/grad_norm": 0.5}]
        shape = settings.get("streams", settings.get("batch_size", 0)), settings.get("bptt", settings.get("steps", 0))
        positions = 6400 if regime == "windowed" else 100
        record = replace(RECORD, regime=regime, seed=seed, shape=shape, tokens=100, positions=positions, seconds=seconds)
        given = {"regime": regime, **flat}
        runs.append(Run(Path(), given, [], "", record, figures, curve))
    return Member(regime + "".join(f" {value}" for value in settings.values()), runs)


def fakes(*members: Member, budget: str = "60 seconds") -> Comparison:
    return Comparison(sorted(members, key=lambda member: member.nll.mean), 4.0, budget, [])


@pytest.mark.parametrize(
    ("stateful", "segments", "budget", "verdict", "told"),
    [
        (BETTER, WORSE, "60 seconds", "Yes.", "was 0.100 nats per token better than"),
        (WORSE, BETTER, "60 seconds", "No, not on these data.", "was 0.100 nats per token worse than"),
        (BETTER, AMONG, "60 seconds", UNSUPPORTED, "has a range of losses that overlaps with that of"),
        (
            BETTER[:2],
            WORSE,
            "60 seconds",
            UNSUPPORTED,
            "was 0.105 nats per token better, but with fewer than 3 seeds, than",
        ),
        (BETTER, WORSE, "", UNSUPPORTED, "was 0.100 nats per token better, but with a different budget, than"),
    ],
)
def test_an_answer_is_given_only_where_the_seeds_support_it(
    stateful: list[float], segments: list[float], budget: str, verdict: str, told: str
) -> None:
    both = fakes(
        fake("stateful", stateful, streams=32, bptt=64), fake("segments", segments, batch_size=32, steps=64), budget=budget
    )
    carrying, _, _, accepted = answers(both)
    assert carrying.verdict == verdict
    assert told in carrying.text
    assert told in accepted.text
    assert (accepted.verdict == UNSUPPORTED) == (verdict == UNSUPPORTED)


def test_members_that_were_told_more_than_another_regime_settle_nothing() -> None:
    stateful, segments = fake("stateful", BETTER, streams=32, bptt=64), fake("segments", WORSE, batch_size=32, steps=64)
    for run_ in segments.runs:
        run_.settings["optimizer.lr"] = 0.1
    carrying, _, _, accepted = answers(fakes(stateful, segments))
    assert carrying.verdict == accepted.verdict == UNSUPPORTED
    assert "was 0.100 nats per token better, but with a different optimizer.lr, than" in carrying.text


def test_members_that_are_not_finished_settle_nothing() -> None:
    stateful, segments = fake("stateful", BETTER, streams=32, bptt=64), fake("segments", WORSE, batch_size=32, steps=64)
    segments.runs.append(replace(segments.runs[0], fault="not finished"))
    carrying, *_ = answers(fakes(stateful, segments))
    assert carrying.verdict == UNSUPPORTED
    assert "was 0.100 nats per token better, but with runs that are not finished, than" in carrying.text


def test_the_ablation_is_never_the_best() -> None:
    both = fakes(fake("shuffled_carry", BETTER, streams=32, bptt=64), fake("stateful", WORSE, streams=32, bptt=64))
    assert both.members[0].regime == "shuffled_carry"
    assert both.best(METRICS[0]) is None
    assert headline(both).startswith("stateful 32 64 ended with a carried nll of 1.610")


def test_a_beginning_answers_nothing() -> None:
    begun = fake("stateful", BETTER, streams=32, bptt=64, updates=99), fake("segments", WORSE, batch_size=32, steps=64)
    carrying, _, _, accepted = answers(fakes(*begun))
    assert carrying.verdict == accepted.verdict == UNSUPPORTED
    assert "was 0.100 nats per token better, but after only 99 updates of one of them, than" in carrying.text


def test_a_rival_that_takes_more_time_for_the_same_is_told_of() -> None:
    members = fake("stateful", WORSE, streams=8, bptt=64), fake("windowed", BETTER, seconds=120.0, steps=64)
    *_, accepted = answers(fakes(*members))
    assert accepted.verdict == "It is not the best here."
    assert "But windowed 64 trained for 120 s, and stateful 8 64 for 60 s." in accepted.text
    *_, alike = answers(fakes(members[0], fake("windowed", BETTER, steps=64)))
    assert " trained for " not in alike.text


def test_questions_about_members_that_are_not_there_are_not_answered() -> None:
    assert [answer.verdict for answer in answers(fakes(fake("padded", WORSE)))] == [UNSUPPORTED] * 4
    assert (
        answers(fakes(fake("padded", WORSE)))[0].text
        == "An answer needs finished runs of stateful and segments. The finished runs here are of padded."
    )


def test_one_step_is_judged_at_equal_tokens_only() -> None:
    members = [fake("onestep", WORSE, streams=1, bptt=1), fake("stateful", BETTER, streams=32, bptt=64)]
    _, alike, _, _ = answers(fakes(*members))
    assert alike.verdict == "It learns less from each token."
    assert alike.text.startswith(
        "With 100 tokens each, onestep 1 1 (1.610, 1.600 to 1.620 over 3 runs) was 0.100 nats per token worse"
    )
    for longer in members[1].runs:
        longer.curve.append({"tokens": 1000.0, "val/nll": 1.2})
    _, unlike, _, _ = answers(fakes(*members))
    assert unlike.verdict == UNSUPPORTED
    assert unlike.text.startswith("When each had read 100 tokens, ")
    for longer in members[1].runs:
        del longer.curve[:2]  # so that the first validation comes after the last token of `onestep`
    _, unlike, _, _ = answers(fakes(*members))
    assert unlike.verdict == UNSUPPORTED
    assert unlike.text.startswith("onestep 1 1 had read 100 tokens at its end, and others had read more")


def test_more_streams_are_compared_with_fewer_of_the_same() -> None:
    members = [fake("stateful", BETTER, streams=n, bptt=64) for n in (8, 1, 32)]
    _, _, busy, _ = answers(
        fakes(*members, fake("stateful", WORSE, streams=128, bptt=16), fake("windowed", WORSE, steps=64))
    )
    assert busy.verdict == "By more streams."
    assert "read as 1, 8 and 32 parallel streams, in order and with carried state. " in busy.text
    assert "They trained on 100, 800 and 3,200 tokens per second." in busy.text
    assert "with 64 steps of the network for each token" in busy.text
    _, _, busy, _ = answers(fakes(*(fake("stateful", BETTER[:2], streams=n, bptt=64) for n in (1, 32))))
    assert busy.verdict == UNSUPPORTED
