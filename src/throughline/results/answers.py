"""The four questions of the project, each answered from the runs of a comparison, or marked as not decided."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from throughline.results.comparison import ABLATION, Comparison, Member, Spread

UNSUPPORTED = "Not decided."
SEEDS_NEEDED = 3
"""With three seeds each, one of two equal members is better in all its seeds once in ten times."""


FEW_UPDATES = 100
"""A network with fewer updates has hardly begun to learn, so it decides nothing about regimes."""


BESIDES = (
    *("model", "head", "codec", "optimizer", "schedule"),
    *("trainer.precision", "trainer.gradient_clip_val", "trainer.accumulate_grad"),
)
"""Settings that affect learning, in addition to the regime."""


class Answer(NamedTuple):
    """A verdict and the text after it; the verdict is `UNSUPPORTED` if the runs do not allow one."""

    question: str
    verdict: str
    text: str


def answers(comparison: Comparison) -> list[Answer]:
    return [_carrying(comparison), _one_at_a_time(comparison), _busy(comparison), _accepted(comparison)]


def _carrying(comparison: Comparison) -> Answer:
    question = "Is training in order with carried state the right instinct?"
    ordered, shuffled = _most_alike(comparison, "stateful", "segments")
    if ordered is None or shuffled is None:
        return _missing(question, comparison, "stateful", "segments")
    alike = (
        f"{shuffled.label} has batches of the same shape, {_shape(shuffled)}, but shuffled pieces that each start from zeros"
        if ordered.shape == shuffled.shape
        else f"{shuffled.label} shuffles its pieces, starts each from zeros, and has batches of {_shape(shuffled)}"
    )
    verdict, words = _verdict(comparison, ordered, shuffled, "Yes.", "No, not on these data.")
    parts = [f"{_ended(comparison)} {_named(ordered)} {words} {_named(shuffled)}. {alike}."]
    young, old = _mean_by_position(ordered, 1, 8), _mean_by_position(ordered, 129, math.inf)
    if young and old:
        parts.append(
            f"Starting from zeros, {ordered.label} has a loss of {young:.3f} nats on each of the first 8 tokens, and of "
            f"{old:.3f} after the 128th. With the state carried through the whole split, its loss is {ordered.nll.mean:.3f}."
        )
    for ablation in _of(comparison, ABLATION)[:1]:
        _, words = _verdict(comparison, ablation, shuffled, "", "")
        parts.append(
            f"{_named(ablation)} carries its state into shuffled batches. It {words} {shuffled.label}, which carries none."
        )
    return Answer(question, verdict, " ".join(parts))


def _one_at_a_time(comparison: Comparison) -> Answer:
    question = "What does one sample and one step per batch cost, apart from time?"
    onestep, best = _most_alike(comparison, "onestep", "stateful")
    if onestep is None or best is None:
        return _missing(question, comparison, "onestep", "stateful")
    best = _of(comparison, "stateful")[0]
    single = [member for member in _of(comparison, "stateful") if member.shape[0] == 1 and member is not best]
    compared = [onestep, *single[:1], best]
    read = [run.curve[-1]["tokens"] for member in compared for run in member.finished]
    tokens, alike = min(read), max(read) <= 1.02 * min(read)
    places = {member.label: member.nll if alike else member.nll_at(tokens) for member in compared}
    at = {label: nll for label, nll in places.items() if nll is not None}
    if len(at) < len(compared):
        return Answer(
            question,
            UNSUPPORTED,
            f"{onestep.label} had read {tokens:,.0f} tokens at its end, and others had read more when they were first "
            "validated. experiment=regimes_tokens gives all of them the same number of tokens.",
        )
    verdict, words = _verdict(comparison, onestep, best, "Nothing else here.", "It learns less from each token.", at)
    where = f"With {tokens:,.0f} tokens each," if alike else f"When each had read {tokens:,.0f} tokens,"
    parts = [f"{where} {_named(onestep, at)} {words} {_named(best, at)}."]
    for member in single[:1]:
        _, words = _verdict(comparison, member, onestep, "", "", at)
        parts.append(
            f"{_named(member, at)} also has one stream, but {member.shape[1]} steps per batch. It {words} {onestep.label}."
        )
    if not alike:
        verdict = UNSUPPORTED
        parts.append(
            "But the others were then only at their beginning, with the learning rates of a beginning, so this decides "
            "nothing. experiment=regimes_tokens gives all of them the same number of tokens."
        )
    norms = [_grad_norm(member) for member in (onestep, best)]
    parts.append(
        f"The mean norm of the gradient of an update, before clipping, is {norms[0]:.2f} for {onestep.label} and "
        f"{norms[1]:.2f} for {best.label}."
    )
    slow, fast = (_mean(member, "tokens_per_second") for member in (onestep, best))
    parts.append(f"{onestep.label} trained on {slow:,.0f} tokens per second, {best.label} on {fast:,.0f}.")
    return Answer(question, verdict, " ".join(parts))


def _busy(comparison: Comparison) -> Answer:
    question = "How is the device kept busy without changing the problem?"
    ladder = sorted(_ladder(comparison), key=lambda member: member.shape[0])
    if len(ladder) < 2:
        return _missing(question, comparison, "stateful", "stateful with other numbers of streams")
    few, many = ladder[0], ladder[-1]
    slow, fast = ([run.metrics["tokens_per_second"] for run in member.finished] for member in (few, many))
    verdict = UNSUPPORTED
    enough = min(map(_seeds, (few, many))) >= SEEDS_NEEDED
    if enough and max(slow) < min(fast):
        verdict = "By more streams."
    elif enough and max(fast) < min(slow):
        verdict = "Not by more streams here."
    rates = [f"{_mean(member, 'tokens_per_second'):,.0f}" for member in ladder]
    parts = [
        f"The same data were read as {_and([str(m.shape[0]) for m in ladder])} parallel streams, in order and with carried "
        f"state. They trained on {_and(rates)} tokens per second."
    ]
    low, high = few.metric("device/utilisation"), many.metric("device/utilisation")
    if low and high:
        parts.append(f"The fewest streams used {low.mean:.1%} of the device's matrix rate, the most {high.mean:.1%}.")
    memory = [f"{_mean(member, 'peak_memory_bytes') / 2**20:,.0f} MiB" for member in (few, many)]
    parts.append(f"Their peak memory was {memory[0]} and {memory[1]}.")
    best = min(ladder, key=lambda member: member.nll.mean)
    parts.append(
        "More streams make fewer updates on the same number of tokens. "
        f"Of these members, {_named(best)} has the lowest carried nll."
    )
    for member in _of(comparison, "windowed")[:1]:
        positions = [run.finished.positions / run.finished.tokens for run in member.finished]
        parts.append(
            f"Windows also keep the device busy, but with {max(positions):,.0f} steps of the network for each token that is "
            f"learned from: {member.label} trained on {_mean(member, 'tokens_per_second'):,.0f} tokens per second."
        )
    return Answer(question, verdict, " ".join(parts))


def _accepted(comparison: Comparison) -> Answer:
    question = "What is the accepted way to train a generator on long sequences?"
    accepted = _of(comparison, "stateful")
    rivals = [member for member in comparison.finished if member.regime not in ("stateful", ABLATION)]
    if not accepted or not rivals:
        return _missing(question, comparison, "stateful", "another regime")
    verdict, words = _verdict(comparison, accepted[0], rivals[0], "It is the best here.", "It is not the best here.")
    parts = [
        "The accepted way is truncated backpropagation through time over parallel contiguous streams (stateful).",
        f"{_ended(comparison)} {_named(accepted[0])} {words} the best of the others, {_named(rivals[0])}.",
    ]
    ours, theirs = (
        math.fsum(run.finished.seconds for run in m.finished) / len(m.finished) for m in (accepted[0], rivals[0])
    )
    if theirs > 1.5 * ours:
        parts.append(f"But {rivals[0].label} trained for {theirs:,.3g} s, and {accepted[0].label} for {ours:,.3g} s.")
    times = [(member.label, member.metric("seconds_to_worst")) for member in (accepted[0], *rivals)]
    parts.append(
        f"The worst of all runs ended with a carried nll of {comparison.worst:.3f}. Times to reach this: "
        f"{_and([f'{label} {spread.mean:,.3g} s' for label, spread in times if spread])}."
    )
    return Answer(question, verdict, " ".join(parts))


def _of(comparison: Comparison, regime: str) -> list[Member]:
    """The finished members of a regime, the best first."""
    return [member for member in comparison.finished if member.regime == regime]


def _ladder(comparison: Comparison) -> list[Member]:
    """The best member of `stateful`, and those that differ from it only in the rows of a batch."""
    stateful = _of(comparison, "stateful")
    return [member for member in stateful if member is stateful[0] or _same_but_rows(member, stateful[0])]


def _same_but_rows(a: Member, b: Member) -> bool:
    return len(_differing(a, b)) == 1 and a.shape[0] != b.shape[0] and a.shape[1] == b.shape[1]


def _differing(a: Member, b: Member) -> list[str]:
    """The settings in which two members differ."""
    return sorted(key for key in {*a.settings, *b.settings} if a.settings.get(key) != b.settings.get(key))


def _most_alike(comparison: Comparison, first: str, second: str) -> tuple[Member, Member] | tuple[None, None]:
    """A member of each regime: the pair that differs least in everything else."""

    def unlike(pair: tuple[Member, Member]) -> tuple[int, int]:
        a, b = pair
        return sum(not key.startswith("regime.") for key in _differing(a, b)), int(a.shape != b.shape)

    pairs = [(a, b) for a in _of(comparison, first) for b in _of(comparison, second)]
    return min(pairs, key=unlike) if pairs else (None, None)


def _verdict(
    comparison: Comparison, a: Member, b: Member, better: str, worse: str, at: Mapping[str, Spread] | None = None
) -> tuple[str, str]:
    """Compare a with b: the verdict, and the words between their names.

    Args:
        better, worse: the verdicts. They need equal budgets, enough seeds, and all seeds of one member on the same side.
        at: the losses to compare; by default those at the end of the budgets.
    """
    x, y = (at[a.label], at[b.label]) if at else (a.nll, b.nll)
    if x.low <= y.high and y.low <= x.high:
        return UNSUPPORTED, "has a range of losses that overlaps with that of"
    how = f"was {abs(x.mean - y.mean):.3f} nats per {comparison.step} {'better' if x.mean < y.mean else 'worse'}"
    if not (comparison.budget or at):
        return UNSUPPORTED, f"{how}, but with a different budget, than"
    updates = min(run.metrics["updates"] for member in (a, b) for run in member.finished)
    if updates < FEW_UPDATES:
        return UNSUPPORTED, f"{how}, but after only {updates:,.0f} updates of one of them, than"
    if min(map(_seeds, (a, b))) < SEEDS_NEEDED:
        return UNSUPPORTED, f"{how}, but with fewer than {SEEDS_NEEDED} seeds, than"
    if a.faults or b.faults:
        return UNSUPPORTED, f"{how}, but with runs that are not finished, than"
    differing = [key for key in _differing(a, b) if key.startswith(BESIDES)]
    if differing:
        return UNSUPPORTED, f"{how}, but with a different {_and(differing)}, than"
    return better if x.mean < y.mean else worse, f"{how} than"


def _seeds(member: Member) -> int:
    return len({run.seed for run in member.finished})


def _missing(question: str, comparison: Comparison, *needed: str) -> Answer:
    there = _and(sorted({member.regime for member in comparison.finished}))
    return Answer(
        question, UNSUPPORTED, f"An answer needs finished runs of {_and(needed)}. The finished runs here are of {there}."
    )


def _ended(comparison: Comparison) -> str:
    return f"After {comparison.budget} each," if comparison.budget else "At the end of different budgets,"


def _named(member: Member, at: Mapping[str, Spread] | None = None) -> str:
    nll = at[member.label] if at else member.nll
    if len(member.finished) == 1:
        return f"{member.label} ({nll.mean:.3f})"
    return f"{member.label} ({nll.mean:.3f}, {nll.low:.3f} to {nll.high:.3f} over {len(member.finished)} runs)"


def _shape(member: Member) -> str:
    return f"{member.shape[0]} rows of {member.shape[1]} steps"


def _mean(member: Member, key: str) -> float:
    spread = member.metric(key)
    return math.nan if spread is None else spread.mean


def _grad_norm(member: Member) -> float:
    norms = [row["train/grad_norm"] for run in member.finished for row in run.curve if "train/grad_norm" in row]
    return math.fsum(norms) / len(norms) if norms else math.nan


def _mean_by_position(member: Member, first: float, last: float) -> float | None:
    """The mean nll of the targets at these positions after a reset, over all runs of the member."""
    rows = [(nll, n) for run in member.finished for position, nll, n in run.by_position if first <= position <= last]
    return math.fsum(nll * n for nll, n in rows) / sum(n for _, n in rows) if rows else None


def _and(parts: Sequence[str]) -> str:
    return ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]
