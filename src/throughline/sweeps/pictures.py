"""Pictures of a search: how the lowest loss fell from trial to trial, and which settings mattered."""

import io
from pathlib import Path
from typing import Any

from throughline.plumbing import atomic
from throughline.runs.record import SEARCH_PICTURES
from throughline.sweeps.study import library

FEW = 5
"""Finished trials below which no importance of a setting is more than chance."""


def draw(study: Any, sweep: Path) -> None:
    """Draw the history of a search, and the importances of its settings if there are enough trials."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    optuna = library()
    history, importance = (sweep / name for name in SEARCH_PICTURES)
    finished = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
    pruned = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.PRUNED])
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    numbers, losses = [trial.number + 1 for trial in finished], [trial.value for trial in finished]
    axes.plot(numbers, losses, "o", color="#0072b2", label="finished")
    axes.step(numbers, [min(losses[: k + 1]) for k in range(len(losses))], where="post", color="#d55e00", label="lowest")
    last = [(t.number + 1, t.intermediate_values[max(t.intermediate_values)]) for t in pruned if t.intermediate_values]
    axes.plot([x for x, _ in last], [y for _, y in last], "x", color="#8a8a8a", label="pruned, at its last validation")
    axes.set(xlabel="trial", ylabel="val nll (nats)", title="The search")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    files = {history: _png(figure)}
    shares = _importances(study, len(finished))
    if shares:
        figure = Figure(figsize=(8, 0.5 * len(shares) + 1.2), layout="constrained")
        axes = figure.subplots()
        bars = axes.barh(list(shares), list(shares.values()), color="#0072b2")
        axes.bar_label(bars, [f"{share:.0%}" for share in shares.values()], padding=3)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set(xlabel="share of the differences in loss", title="Which settings mattered (PED-ANOVA)")
        files[importance] = _png(figure)
    atomic.write(files)


def _importances(study: Any, finished: int) -> dict[str, float]:
    """The importance of each setting that all finished trials have drawn, the largest first; empty if there are too few."""
    if finished < FEW:
        return {}
    optuna = library()
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    found: dict[str, float] = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return found if any(found.values()) else {}


def _png(figure: Any) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()
