"""`check` finds every way in which a recurrent model can be wrong about its state, and finds nothing in right ones."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import throughline as tl
from helpers import PROJECT
from throughline.checking import NAMES, Report
from throughline.model.generator import Generator
from throughline.model.settings import GRU, LSTM, Bernoulli, Model
from throughline.plumbing.errors import UserError
from throughline.settings import targets

E, H = 5, 7
INPUTS = torch.randn(4, 12, E, generator=torch.Generator().manual_seed(0))


class Right(nn.Module):
    """An LSTM with rows first."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm = nn.LSTM(E, H, batch_first=True)
        self.head = nn.Linear(H, 3)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        output, state = self.lstm(x, state)
        return self.head(output), state


class KeepsItsState(Right):
    """The state lies in the module, and the one that it is given counts for nothing."""

    kept: Any = None

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        if self.kept is not None and self.kept[0].shape[1] != len(x):
            self.kept = None
        output, kept = self.lstm(x, self.kept)
        self.kept = tuple(s.detach() for s in kept)
        return self.head(output), self.kept


class ForgetsToDetach(KeepsItsState):
    """The same, and its graph grows from call to call."""

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        output, self.kept = self.lstm(x, self.kept if self.kept is not None and self.kept[0].shape[1] == len(x) else None)
        return self.head(output), self.kept


class KeepsWhatItIsGiven(Right):
    """Right at first sight: it goes on from what it kept only if no state is given."""

    kept: Any = None

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        if state is None and self.kept is not None and self.kept[0].shape[1] == len(x):
            state = self.kept
        output, state = super().forward(x, state)
        self.kept = state
        return output, state


class SwapsRowsAndSteps(Right):
    """Inputs of rows and steps are read as steps and rows."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(E, H, batch_first=False)


class SwapsByAView(Right):
    """The memory is right and its order is not: a view in the place of a transpose."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(E, H, batch_first=False)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        rows, steps = x.shape[:2]
        output, state = self.lstm(x.reshape(steps, rows, E), state)
        return self.head(output).reshape(rows, steps, -1), state


class IgnoresTheState(Right):
    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return super().forward(x, None)


class LosesHalfOfIt(Right):
    """Only h is taken over."""

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return super().forward(x, None if state is None else (state[0], torch.zeros_like(state[1])))


class DetachesOnTheWayIn(Right):
    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return super().forward(x, None if state is None else tuple(s.detach() for s in state))


class DetachesOnTheWayOut(Right):
    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        output, state = super().forward(x, state)
        return output, tuple(s.detach() for s in state)


class DetachesInside(Right):
    """Every third step is cut off from the ones before."""

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        outputs = []
        for step in range(x.shape[1]):
            output, state = super().forward(x[:, step : step + 1], state)
            outputs.append(output)
            if step % 3 == 2:
                state = tuple(s.detach() for s in state)
        return torch.cat(outputs, dim=1), state


class ReadsAhead(Right):
    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        output, state = super().forward(x, state)
        return output - output.mean(dim=1, keepdim=True), state


class BothWays(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm = nn.LSTM(E, H, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        output: tuple[Tensor, Any] = self.lstm(x, state)
        return output


class NormsTheBatch(Right):
    """In training, rows see each other by their mean and variance."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        output, state = super().forward(x, state)
        return self.norm(output.transpose(1, 2)).transpose(1, 2), state


class AttendsToAll(Right):
    """Its state is all that it has read."""

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        seen = x if state is None else torch.cat([state[0], x], dim=1)
        sums = seen.cumsum(dim=1)[:, -x.shape[1] :]
        return sums, (seen,)


class WritesIntoTheState(Right):
    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        h = torch.zeros(len(x), E, dtype=x.dtype) if state is None else state[0]
        outputs = []
        for step in range(x.shape[1]):
            h.data.mul_(0.5).add_(x[:, step])
            outputs.append(h.clone())
        return torch.stack(outputs, dim=1) * self.head.weight[0, 0], (h,)


class BeginsWithWhatItLearned(Right):
    """Its first state is a weight, so that zeros are another one."""

    def __init__(self) -> None:
        super().__init__()
        self.h, self.c = (nn.Parameter(torch.randn(1, 1, H)) for _ in range(2))

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        begin = self.h.expand(-1, len(x), -1).contiguous(), self.c.expand(-1, len(x), -1).contiguous()
        return super().forward(x, begin if state is None else state)


class DrawsInEvaluation(Right):
    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        output, state = super().forward(x, state)
        return nn.functional.dropout(output, 0.5), state


class HidesAWeight(Right):
    """A tensor that `state_dict` does not hold."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.randn(3, dtype=torch.float64)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        output, state = super().forward(x, state)
        return output * self.scale.to(output.dtype), state


class HasNoMemory(Right):
    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return x @ self.lstm.weight_ih_l0.t(), (x.new_zeros(1, len(x), H),)


class HasNoState(Right):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        return super().forward(x, state)[0]


class OneStateForAllRows(Right):
    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        output, (h, c) = super().forward(x, None)
        return output, (h.mean(dim=1), c.mean(dim=1))


class Breaks(Right):
    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        raise ValueError("no such thing")


WRONG: dict[type[nn.Module], tuple[str, str]] = {
    KeepsItsState: ("holds weights only", "a second time gives another result"),
    ForgetsToDetach: ("gradients stop at a detach", "the graph of an earlier chunk is still there; it keeps kept"),
    KeepsWhatItIsGiven: ("holds weights only", "it keeps kept"),
    SwapsRowsAndSteps: ("takes and returns a state", "are rows and steps swapped"),
    SwapsByAView: ("rows do not touch", "are rows and steps swapped"),
    IgnoresTheState: ("chunks equal the whole", "is off by"),
    LosesHalfOfIt: ("chunks equal the whole", "is off by"),
    DetachesOnTheWayIn: ("gradients travel", "its gradient is cut on its way in"),
    DetachesOnTheWayOut: ("gradients travel", "its gradient is cut from one chunk to the next"),
    DetachesInside: ("gradients travel", "its gradient is cut inside a chunk"),
    ReadsAhead: ("steps do not read ahead", "later inputs change earlier outputs"),
    BothWays: ("steps do not read ahead", "later inputs change earlier outputs"),
    NormsTheBatch: ("rows do not touch", "in training mode other inputs of row 1 change row 2"),
    AttendsToAll: ("the state keeps its size", "the state grows"),
    WritesIntoTheState: ("holds weights only", "in place"),
    BeginsWithWhatItLearned: ("resets isolate", "is the first state learned"),
    DrawsInEvaluation: ("holds weights only", "a second time gives another result"),
    HidesAWeight: ("resumes exactly", "scale: tensors that state_dict does not hold"),
    HasNoMemory: ("chunks equal the whole", "the state makes no difference"),
    HasNoState: ("takes and returns a state", "it returns Tensor instead of (output, state)"),
    OneStateForAllRows: ("takes and returns a state", "has no dimension for the 4 rows"),
    Breaks: ("takes and returns a state", "ValueError: no such thing"),
}


@pytest.mark.parametrize("cls", WRONG, ids=lambda cls: cls.__name__)
def test_what_is_wrong_is_found_and_named(cls: type[nn.Module]) -> None:
    report = tl.check(cls(), INPUTS, batch_first=True)
    assert not report.passed
    name, detail = WRONG[cls]
    (result,) = (result for result in report.results if result.name == name)
    assert result.passed is False
    assert detail in result.detail, report
    assert f"FAIL  {name}" in str(report)


def test_every_property_fails_for_some_model() -> None:
    assert {name for name, _ in WRONG.values()} == set(NAMES)


class ByTheStep(nn.Module):
    """A cell as functional libraries write them, `(carry, x) -> (carry, y)`, in a loop over the steps."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell = nn.GRUCell(E, H)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        carry, outputs = x.new_zeros(len(x), H) if state is None else state["carry"], []
        for step in x.unbind(dim=1):
            carry = self.cell(step, carry)
            outputs.append(carry)
        return torch.stack(outputs, dim=1), {"carry": carry, "steps": 1}


class InFloat32Alone(Right):
    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        if x.dtype != torch.float32:
            raise TypeError("float32 alone")
        return super().forward(x, state)


RIGHT: dict[str, Callable[[], Report]] = {
    "rows first": lambda: tl.check(Right(), INPUTS, batch_first=True),
    "steps first": lambda: tl.check(nn.LSTM(E, H, num_layers=2, dropout=0.5)),
    "PyTorch's, rows first": lambda: tl.check(nn.GRU(E, H, batch_first=True)),
    "tanh": lambda: tl.check(nn.RNN(E, H)),
    "projected": lambda: tl.check(nn.LSTM(E, H, proj_size=3)),
    "by the step": lambda: tl.check(ByTheStep(), INPUTS, batch_first=True),
    "float32": lambda: tl.check(InFloat32Alone(), INPUTS, batch_first=True),
    "of one-hot ids": lambda: tl.check(Generator(LSTM(hidden_size=H, input="onehot", num_layers=2), 6)),
    "tied": lambda: tl.check(Generator(LSTM(hidden_size=H, embedding_size=H, tie_weights=True, dropout=0.2), 6)),
    "of frames": lambda: tl.check(Generator(GRU(hidden_size=H), 6, Bernoulli())),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes(name: str) -> None:
    report = RIGHT[name]()
    assert report.passed, report
    assert len(report.results) == len(NAMES)
    assert all(result.detail for result in report.results)


@pytest.mark.parametrize("cls", targets(Model).values(), ids=lambda cls: cls.__name__)  # type: ignore[type-abstract]
def test_our_own_cores_and_generators_pass(cls: Callable[..., Model]) -> None:
    torch.manual_seed(0)
    settings = cls(hidden_size=H, num_layers=2, embedding_size=E, dropout=0.2)
    for model in (settings.build(E), Generator(settings, 9)):
        report = tl.check(model)
        assert report.passed, report
    core = settings.build(E)
    if core.restarts:
        (result,) = (result for result in tl.check(core).results if result.name == "resets isolate")
        assert "inside a chunk" in result.detail


def test_a_model_is_unchanged_and_so_is_the_usual_type() -> None:
    model = KeepsItsState().train()
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    tl.check(model, INPUTS, batch_first=True)
    assert model.kept is None
    assert model.training
    assert all(torch.equal(weight, weights[name]) for name, weight in model.state_dict().items())
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert torch.get_default_dtype() == torch.float32
    assert INPUTS.dtype == torch.float32


def test_a_model_that_was_used_and_kept_its_graph_cannot_be_copied() -> None:
    model = ForgetsToDetach()
    model(INPUTS)
    (first, *others) = tl.check(model, INPUTS, batch_first=True).results
    assert first.passed is False
    assert first.detail.startswith("it cannot be copied, because kept keeps a graph of an earlier call: ")
    assert {result.passed for result in others} == {None}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"inputs": INPUTS}, "batch_first: say whether"),
        ({"batch_first": True}, "inputs: give an example"),
        ({"inputs": INPUTS[:2], "batch_first": True}, "inputs: 2 rows and 12 steps; give at least 3 rows and 6 steps"),
        ({"inputs": INPUTS[:, :5], "batch_first": True}, "inputs: 4 rows and 5 steps; give at least"),
    ],
)
def test_what_cannot_be_checked_is_one_line(arguments: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=f"^{line}"):
        tl.check(Right(), **arguments)


def test_a_report_is_one_screen() -> None:
    lines = str(tl.check(KeepsItsState(), INPUTS, batch_first=True)).splitlines()
    assert lines[0].startswith("KeepsItsState: ")
    assert lines[0].endswith("properties hold; 4 rows of 12 features, in float64")
    assert len(lines) == 1 + len(NAMES)
    assert all(line.startswith(("ok  ", "FAIL")) for line in lines[1:])


def test_the_page_shows_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """All examples of docs/check.md run; only shares of differences depend on the draw of the weights."""
    page = (PROJECT / "docs" / "check.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)```", page, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    for example in examples:
        exec(example, names)
    names["test_my_core"]()
    printed = re.sub(r"\d+%", "N%", capsys.readouterr().out)
    shown = [re.sub(r"\d+%", "N%", line[4:]) for line in page.splitlines() if line.startswith("    ok ") or "hold; " in line]
    assert len(shown) > 14
    assert all(line in printed.splitlines() for line in shown)
