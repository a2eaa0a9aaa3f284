"""The four questions that the project is about, each answered by what a comparison's runs show, or not at all."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from throughline.results.comparison import ABLATION, Comparison, Member, Spread

UNSUPPORTED = "These runs do not say."
SEEDS_NEEDED = 3
"""With three seeds each, all seeds of one of two equal members beat all of the other once in ten times."""


FEW_UPDATES = 100
"""A network that has made fewer updates has hardly begun to learn, so regimes are not compared by it."""


BESIDES = (
    *("model", "head", "codec", "optimizer", "schedule"),
    *("trainer.precision", "trainer.gradient_clip_val", "trainer.accumulate_grad"),
)
"""Settings besides the regime that decide what is learned."""


class Answer(NamedTuple):
    """One paragraph, and the verdict that it begins with: `UNSUPPORTED` where the runs do not allow one."""

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
        f"the same {ordered.shape[0]} rows of {ordered.shape[1]} steps, but shuffled and read from zeros"
        if ordered.shape == shuffled.shape
        else f"whose pieces are shuffled and read from zeros, in batches of another shape, {_shape(shuffled)}"
    )
    verdict, words = _verdict(comparison, ordered, shuffled, "Yes.", "No, not on these data.")
    parts = [f"{_ended(comparison)} {_named(ordered)} {words} {_named(shuffled)}, {alike}."]
    young, old = _mean_by_position(ordered, 1, 8), _mean_by_position(ordered, 129, math.inf)
    if young and old:
        parts.append(
            f"Begun from zeros, {ordered.label} pays {young:.3f} nats for each of the first 8 tokens and {old:.3f} for "
            f"those beyond the 128th; with the state carried through the whole split it pays {ordered.nll.mean:.3f}."
        )
    for ablation in _of(comparison, ABLATION)[:1]:
        _, words = _verdict(comparison, ablation, shuffled, "", "")
        parts.append(
            f"{_named(ablation)}, whose state is carried into shuffled batches, {words} {shuffled.label}, without any."
        )
    return Answer(question, verdict, " ".join(parts))


def _one_at_a_time(comparison: Comparison) -> Answer:
    question = "What does one sample, and one step, per batch cost, apart from time?"
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
            "validated; experiment=regimes_tokens gives all of them as many tokens.",
        )
    verdict, words = _verdict(comparison, onestep, best, "Nothing else, here.", "Much of what each token could teach.", at)
    where = f"With {tokens:,.0f} tokens each," if alike else f"When each had read {tokens:,.0f} tokens,"
    parts = [f"{where} {_named(onestep, at)} {words} {_named(best, at)}."]
    for member in single[:1]:
        _, words = _verdict(comparison, member, onestep, "", "", at)
        parts.append(
            f"Also one stream, but {member.shape[1]} steps per batch, {_named(member, at)} {words} {onestep.label}."
        )
    if not alike:
        verdict = UNSUPPORTED
        parts.append(
            "But the others were only beginning then, at the learning rates of a beginning, so that does not settle it; "
            "experiment=regimes_tokens gives all of them as many tokens."
        )
    norms = [_grad_norm(member) for member in (onestep, best)]
    parts.append(
        f"The gradient of an update has, before it is clipped, a mean length of {norms[0]:.2f} for {onestep.label} and "
        f"{norms[1]:.2f} for {best.label}."
    )
    slow, fast = (_mean(member, "tokens_per_second") for member in (onestep, best))
    parts.append(f"The time: {slow:,.0f} tokens per second instead of {fast:,.0f}.")
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
        verdict = "Not by more streams, here."
    rates = [f"{_mean(member, 'tokens_per_second'):,.0f}" for member in ladder]
    parts = [
        f"The same line in order, the state carried, read as {_and([str(m.shape[0]) for m in ladder])} streams side by "
        f"side: {_and(rates)} tokens per second."
    ]
    low, high = few.metric("device/utilisation"), many.metric("device/utilisation")
    if low and high:
        parts.append(f"That is {low.mean:.1%} and {high.mean:.1%} of the device's matrix rate for the fewest and the most.")
    memory = [f"{_mean(member, 'peak_memory_bytes') / 2**20:,.0f} MiB" for member in (few, many)]
    parts.append(f"Their peak memory: {memory[0]} and {memory[1]}.")
    best = min(ladder, key=lambda member: member.nll.mean)
    parts.append(f"More streams leave fewer updates for as many tokens: of these, {_named(best)} came out lowest.")
    for member in _of(comparison, "windowed")[:1]:
        positions = [run.finished.positions / run.finished.tokens for run in member.finished]
        parts.append(
            f"Windows keep it busy, too, with {max(positions):,.0f} steps of the network for each token learned from: "
            f"{member.label} trained on {_mean(member, 'tokens_per_second'):,.0f} tokens per second."
        )
    return Answer(question, verdict, " ".join(parts))


def _accepted(comparison: Comparison) -> Answer:
    question = "What is the accepted way to train a generator on long sequences?"
    accepted = _of(comparison, "stateful")
    rivals = [member for member in comparison.finished if member.regime not in ("stateful", ABLATION)]
    if not accepted or not rivals:
        return _missing(question, comparison, "stateful", "another regime")
    verdict, words = _verdict(comparison, accepted[0], rivals[0], "The one that wins here.", "One that does not win here.")
    parts = [
        "Truncated backpropagation through time over parallel contiguous streams: stateful.",
        f"{_ended(comparison)} {_named(accepted[0])} {words} the best of the others, {_named(rivals[0])}.",
    ]
    ours, theirs = (
        math.fsum(run.finished.seconds for run in m.finished) / len(m.finished) for m in (accepted[0], rivals[0])
    )
    if theirs > 1.5 * ours:
        parts.append(f"But {rivals[0].label} trained for {theirs:,.3g} s, and {accepted[0].label} for {ours:,.3g} s.")
    times = [(member.label, member.metric("seconds_to_worst")) for member in (accepted[0], *rivals)]
    parts.append(
        f"To reach a carried nll of {comparison.worst:.3f}, what the worst run of all ended with, took "
        f"{_and([f'{label} {spread.mean:,.3g} s' for label, spread in times if spread])}."
    )
    return Answer(question, verdict, " ".join(parts))


def _of(comparison: Comparison, regime: str) -> list[Member]:
    """Its finished members, the best first."""
    return [member for member in comparison.finished if member.regime == regime]


def _ladder(comparison: Comparison) -> list[Member]:
    """The best member of `stateful`, and those that differ from it in nothing but the rows of a batch."""
    stateful = _of(comparison, "stateful")
    return [member for member in stateful if member is stateful[0] or _same_but_rows(member, stateful[0])]


def _same_but_rows(a: Member, b: Member) -> bool:
    return len(_differing(a, b)) == 1 and a.shape[0] != b.shape[0] and a.shape[1] == b.shape[1]


def _differing(a: Member, b: Member) -> list[str]:
    """The settings in which they differ."""
    return sorted(key for key in {*a.settings, *b.settings} if a.settings.get(key) != b.settings.get(key))


def _most_alike(comparison: Comparison, first: str, second: str) -> tuple[Member, Member] | tuple[None, None]:
    """A member of each regime, in everything else as much alike as there are."""

    def unlike(pair: tuple[Member, Member]) -> tuple[int, int]:
        a, b = pair
        return sum(not key.startswith("regime.") for key in _differing(a, b)), int(a.shape != b.shape)

    pairs = [(a, b) for a in _of(comparison, first) for b in _of(comparison, second)]
    return min(pairs, key=unlike) if pairs else (None, None)


def _verdict(
    comparison: Comparison, a: Member, b: Member, better: str, worse: str, at: Mapping[str, Spread] | None = None
) -> tuple[str, str]:
    """What to say of a beside b: the verdict, and the words between their names.

    Args:
        better, worse: the verdicts; there is one only after equal budgets, with enough seeds, all of one on the same side.
        at: where they are compared; at the end of their budgets unless given.
    """
    x, y = (at[a.label], at[b.label]) if at else (a.nll, b.nll)
    if x.low <= y.high and y.low <= x.high:
        return UNSUPPORTED, "cannot be told by its seeds from"
    how = f"{abs(x.mean - y.mean):.3f} nats per token {'better' if x.mean < y.mean else 'worse'} than"
    if not (comparison.budget or at):
        return UNSUPPORTED, f"was, with another budget, {how}"
    updates = min(run.metrics["updates"] for member in (a, b) for run in member.finished)
    if updates < FEW_UPDATES:
        return UNSUPPORTED, f"was, after no more than {updates:,.0f} updates, {how}"
    if min(map(_seeds, (a, b))) < SEEDS_NEEDED:
        return UNSUPPORTED, f"was, with too few seeds to prove it, {how}"
    if a.faults or b.faults:
        return UNSUPPORTED, f"was, as far as runs are finished, {how}"
    differing = [key for key in _differing(a, b) if key.startswith(BESIDES)]
    if differing:
        return UNSUPPORTED, f"was, with another {_and(differing)}, {how}"
    return better if x.mean < y.mean else worse, f"was {how}"


def _seeds(member: Member) -> int:
    return len({run.seed for run in member.finished})


def _missing(question: str, comparison: Comparison, *needed: str) -> Answer:
    there = _and(sorted({member.regime for member in comparison.finished}))
    return Answer(question, UNSUPPORTED, f"That needs finished runs of {_and(needed)}; those here are of {there}.")


def _ended(comparison: Comparison) -> str:
    return f"After {comparison.budget} each," if comparison.budget else "At the end of budgets that differ,"


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
    """Mean nll of the targets at these positions after a reset, over all runs of the member."""
    rows = [(nll, n) for run in member.finished for position, nll, n in run.by_position if first <= position <= last]
    return math.fsum(nll * n for nll, n in rows) / sum(n for _, n in rows) if rows else None


def _and(parts: Sequence[str]) -> str:
    return ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1]
