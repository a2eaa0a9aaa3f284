"""Checks a recurrent model of any kind: whether it can be trained in chunks, its state handed from one to the next.

The model is called as `model(inputs, state)` and returns `(output, state)`, as PyTorch's recurrent modules do. A state is
any structure of tensors, and None is the beginning.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from throughline.model.cores import Core
from throughline.model.generator import Generator
from throughline.plumbing.errors import UserError

ROWS, STEPS = 4, 24
"""The size of the inputs where none are given."""
FEWEST_ROWS, FEWEST_STEPS = 3, 6
EXACT, ROUGH = 1e-9, 1e-4
"""How far numbers may lie apart that should be equal, as a share of the largest: in float64, and in float32."""


@dataclass(frozen=True)
class Result:
    """One property of a model.

    Attributes:
        name: the property, as a statement.
        passed: whether it holds; None if it was not checked, because an earlier one does not hold.
        detail: what was measured, or what is wrong and the likely cause.
    """

    name: str
    passed: bool | None
    detail: str


@dataclass(frozen=True)
class Report:
    """What `check` has found; printed, it is one screen.

    Attributes:
        model: the name of the model's class.
        inputs: the inputs in words.
        results: one for each property.
    """

    model: str
    inputs: str
    results: list[Result]

    @property
    def passed(self) -> bool:
        """Whether all properties hold."""
        return all(result.passed for result in self.results)

    def __str__(self) -> str:
        held = sum(bool(result.passed) for result in self.results)
        width = max(len(result.name) for result in self.results)
        marks = {True: "ok  ", False: "FAIL", None: "  - "}
        lines = [f"{self.model}: {held} of {len(self.results)} properties hold; {self.inputs}"]
        lines += [f"{marks[r.passed]}  {r.name.ljust(width)}  {r.detail}".rstrip() for r in self.results]
        return "\n".join(lines)

    __repr__ = __str__


def check(model: nn.Module, inputs: Tensor | None = None, *, batch_first: bool | None = None) -> Report:
    """Check whether a recurrent model can be trained in chunks with a carried state; the model itself is not changed.

    Args:
        model: called as `model(inputs, state)`, returns `(output, state)`.
        inputs: an example, (B, T, ...) or (T, B, ...), ids or features, with 3 rows and 6 steps or more. None makes one for
            modules of PyTorch and of throughline.
        batch_first: whether the rows are dimension 0 of inputs and output. None is what the model itself says.

    Returns:
        A report; `report.passed` says whether all is well, and `print(report)` shows it.

    Raises:
        UserError: there are no inputs, or they are too small.
    """
    batch_first = _batch_first(model) if batch_first is None else batch_first
    if inputs is None:
        inputs = _example(model, batch_first)
    rows, steps = inputs.shape[:2] if batch_first else (inputs.shape[1], inputs.shape[0])
    if rows < FEWEST_ROWS or steps < FEWEST_STEPS:
        raise UserError(
            f"inputs: {rows} rows and {steps} steps; give at least {FEWEST_ROWS} rows and {FEWEST_STEPS} steps, "
            f"in this order with batch_first=True, else (steps, rows, ...)"
        )
    kind = "ids" if not inputs.is_floating_point() else "features"
    with _float64():
        try:
            subject = _Subject(model, inputs, batch_first)
        except _Failed as failed:
            results = [Result(NAMES[0], False, str(failed)), *(Result(name, None, "") for name in NAMES[1:])]
            return Report(type(model).__name__, f"{rows} rows of {steps} {kind}", results)
        found = [Result(NAMES[0], True, subject.described)]
        for name, property_of in PROPERTIES.items():
            try:
                found.append(Result(name, True, property_of(subject)))
            except _Failed as failed:
                found.append(Result(name, False, str(failed)))
            except Exception as error:  # a model may raise anything
                found.append(Result(name, False, _in_a_line(error)))
    precision = str(subject.dtype).removeprefix("torch.")
    return Report(type(model).__name__, f"{rows} rows of {steps} {kind}, in {precision}", found)


def _batch_first(model: nn.Module) -> bool:
    if isinstance(model, Generator):
        return True
    if isinstance(getattr(model, "batch_first", None), bool):
        return bool(model.batch_first)
    if isinstance(model, Core):
        return False
    raise UserError("batch_first: say whether the rows are dimension 0 of the inputs (True), or the steps (False)")


def _example(model: nn.Module, batch_first: bool) -> Tensor:
    """Inputs for a module whose sizes are known."""
    draw = torch.Generator().manual_seed(0)
    shape = (ROWS, STEPS) if batch_first else (STEPS, ROWS)
    if isinstance(model, Generator) and not model.reads_frames:
        return torch.randint(model.vocab_size, shape, generator=draw)
    if isinstance(model, Generator):
        return torch.rand(*shape, model.vocab_size, generator=draw).round()
    if isinstance(size := getattr(model, "input_size", None), int):
        return torch.randn(*shape, size, generator=draw)
    raise UserError("inputs: give an example, a tensor of at least 3 rows and 6 steps")


class _Failed(Exception):  # noqa: N818  # it is a finding
    """A property that does not hold, and why."""


def _in_a_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


@contextmanager
def _float64() -> Iterator[None]:
    """Let models that make tensors of the usual type make them in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class Called(NamedTuple):
    """What a model returns: its output with rows and steps first, (B, T, ...), and its state."""

    output: Tensor
    state: Any


class _Subject:
    """A model as it was before any call, and what is known about its state.

    Args:
        model: copied.
        inputs: (B, T, ...) if `batch_first`, else (T, B, ...).

    Raises:
        _Failed: it cannot be called as a recurrent model.
    """

    def __init__(self, model: nn.Module, inputs: Tensor, batch_first: bool) -> None:
        self.batch_first = batch_first
        inputs = inputs.detach().to("cpu")  # as the model below
        self.inputs = inputs if batch_first else inputs.transpose(0, 1)  # B, T, ...
        self.rows, self.steps = self.inputs.shape[:2]
        self.dtype = torch.float64
        try:
            self._model = deepcopy(model).to("cpu")
        except Exception as error:
            where = ", ".join(dict.fromkeys(name for name, _ in _kept(model))) or "the model"
            raise _Failed(
                f"it cannot be copied, because {where} keeps a graph of an earlier call: {_in_a_line(error)}"
            ) from None
        try:
            self._model.double()
            self._tell()
        except Exception as error:  # of a model with tensors or kernels in float32 alone
            first = error
            self.dtype = torch.float32
            torch.set_default_dtype(torch.float32)
            self._model.float()
            try:
                self._tell()
            except _Failed:
                raise
            except Exception:
                raise _Failed(f"a call of model(inputs, None) ends in an error: {_in_a_line(first)}") from None

    def _tell(self) -> None:
        """Call the model, and find where the rows of its state lie."""
        if self.inputs.is_floating_point():
            self.inputs = self.inputs.to(self.dtype)
        whole, fewer = self.fresh()(self.inputs, None), self.fresh()(self.inputs[:-1], None)
        leaves, less = self.tensors(whole.state), self.tensors(fewer.state)
        if not leaves:
            raise _Failed("the state that it returns holds no tensor")
        self.row_dims = []
        for a, b in zip(leaves, less, strict=True):
            dims = [d for d in range(a.dim()) if (a.shape[d], b.shape[d]) == (self.rows, self.rows - 1)]
            if not dims:
                swapped = "; are rows and steps swapped?" if self.steps in a.shape else ""
                raise _Failed(f"a tensor of its state, {tuple(a.shape)}, has no dimension for the {self.rows} rows{swapped}")
            self.row_dims.append(dims[0])
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves)
        self.described = f"output {tuple(whole.output.shape)}, state {shapes}"

    @property
    def tolerance(self) -> float:
        return EXACT if self.dtype == torch.float64 else ROUGH

    def fresh(self, training: bool = False) -> "_Callable":
        """A copy of the model as it was before any call."""
        return _Callable(deepcopy(self._model).train(training), self.batch_first)

    @staticmethod
    def tensors(state: Any) -> list[Tensor]:
        return [leaf for leaf in tree_flatten(state)[0] if isinstance(leaf, Tensor)]

    def with_row(self, state: Any, row: int, change: Callable[[Tensor], Tensor]) -> Any:
        """The state with another value in one row."""
        dims = iter(self.row_dims)

        def changed(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            copy = leaf.detach().clone()
            one = copy.select(next(dims), row)
            one.copy_(change(one))
            return copy

        return tree_map(changed, state)

    def row(self, state: Any, row: int) -> list[Tensor]:
        """The tensors of one row, which keep its dimension."""
        return [leaf.narrow(dim, row, 1) for leaf, dim in zip(self.tensors(state), self.row_dims, strict=True)]

    def other_row(self) -> Tensor:
        """The inputs with a first row that differs from what it was, from its first step on."""
        changed = self.inputs.clone()
        changed[0] = self.inputs[1].flip(0)
        for number in range(1, self.rows):
            if not torch.equal(changed[0, 0], self.inputs[0, 0]):
                break
            changed[0] = self.inputs[number]
        return changed

    def apart(self, a: Tensor, b: Tensor) -> float:
        """How far two tensors lie apart, as a share of the largest number; 0 if they count as equal."""
        if a.shape != b.shape:
            raise _Failed(f"shapes differ: {tuple(a.shape)} and {tuple(b.shape)}")
        if not a.numel() or torch.equal(a, b):
            return 0.0
        if not a.is_floating_point():
            return 1.0
        share = float((a - b).abs().max() / b.abs().max().clamp(min=1e-3))
        return share if not share <= self.tolerance else 0.0  # nan is no equality

    def states_apart(self, a: Any, b: Any) -> float:
        return max(self.apart(x, y) for x, y in zip(self.tensors(a), self.tensors(b), strict=True))


class _Callable:
    """A copy of a model, called with inputs (B, T, ...)."""

    def __init__(self, model: nn.Module, batch_first: bool) -> None:
        self.model, self.batch_first = model, batch_first

    def __call__(self, inputs: Tensor, state: Any) -> Called:
        rows, steps = inputs.shape[:2]
        returned = self.model(inputs if self.batch_first else inputs.transpose(0, 1).contiguous(), state)
        if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[0], Tensor)):
            raise _Failed(f"it returns {type(returned).__name__} instead of (output, state)")
        output = returned[0] if self.batch_first or returned[0].dim() < 2 else returned[0].transpose(0, 1)
        if tuple(output.shape[:2]) != (rows, steps):
            wanted = f"{rows} rows of {steps} steps"
            raise _Failed(f"its output is {tuple(returned[0].shape)}, which is not {wanted}; is batch_first right?")
        return Called(output, returned[1])

    def chunks(self, inputs: Tensor, sizes: list[int], state: Any = None) -> Called:
        """The outputs of all chunks together, the state handed from each to the next."""
        outputs = []
        for chunk in torch.split(inputs, sizes, dim=1):
            output, state = self(chunk, state)
            outputs.append(output)
        return Called(torch.cat(outputs, dim=1), state)


def _kept(model: nn.Module) -> list[tuple[str, Tensor]]:
    """The tensors that lie in modules and are neither weights nor buffers, by name."""
    found = []
    for prefix, module in model.named_modules():
        for name, value in vars(module).items():
            if name in ("_parameters", "_buffers", "_modules"):
                continue
            tensors = [leaf for leaf in tree_flatten(value)[0] if type(leaf) is Tensor]
            found += [(f"{prefix}.{name}".lstrip("."), tensor) for tensor in tensors]
    return found


def _new_tensors(model: nn.Module, before: nn.Module) -> str:
    """The names of the attributes that calls have made or changed, as an explanation."""
    earlier = dict([*_kept(before), *before.named_buffers()])
    names = dict.fromkeys(
        name
        for name, tensor in [*_kept(model), *model.named_buffers()]
        if name not in earlier or tensor.shape != earlier[name].shape or not torch.equal(tensor, earlier[name])
    )
    return f"; it keeps {', '.join(names)}" if names else ""


def _no_memory(subject: _Subject) -> str:
    """Two calls with the same arguments give the same, and change neither the arguments nor the model."""
    model = subject.fresh()
    with torch.no_grad():
        first, second = model(subject.inputs, None), model(subject.inputs, None)
    kept = _new_tensors(model.model, subject.fresh().model)
    if share := max(subject.apart(second.output, first.output), subject.states_apart(second.state, first.state)):
        raise _Failed(f"the same call a second time gives another result, off by {share:.0%}{kept}")
    with torch.no_grad():
        given = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, first.state)
        inputs = subject.inputs.clone()
        model(inputs, given)
    if subject.states_apart(given, first.state) or not torch.equal(inputs, subject.inputs):
        raise _Failed("it changes the inputs or the state that it is given, in place")
    return "the same call a second time gives the same"


def _sizes(steps: int) -> list[list[int]]:
    uneven = [1, 3, steps - 4]
    return [[1] * steps, uneven, [steps // 2, steps - steps // 2]]


def _chunks_are_the_whole(subject: _Subject) -> str:
    with torch.no_grad():
        whole = subject.fresh()(subject.inputs, None)
        for sizes in _sizes(subject.steps):
            told = f"in chunks of {sizes[0]}" if len(set(sizes)) == 1 else f"in chunks of {', '.join(map(str, sizes))} steps"
            chunked = subject.fresh().chunks(subject.inputs, sizes)
            if share := subject.apart(chunked.output, whole.output):
                unlike = (
                    (chunked.output - whole.output).abs().flatten(2).amax(dim=(0, 2)) if whole.output.dim() > 2 else None
                )
                first = "" if unlike is None else f" from step {int((unlike > unlike.max() * 1e-6).nonzero()[0]) + 1} on"
                raise _Failed(f"{told} the output is off by {share:.0%}{first}")
            if share := subject.states_apart(chunked.state, whole.state):
                raise _Failed(f"{told} the output is the same, but the last state is off by {share:.0%}")
        half = torch.split(subject.inputs, [subject.steps // 2, subject.steps - subject.steps // 2], dim=1)
        carried = subject.fresh()
        _, state = carried(half[0], None)
        matters = subject.apart(carried(half[1], state).output, subject.fresh()(half[1], None).output)
    if not matters:
        raise _Failed("the state makes no difference: it has no memory of earlier chunks")
    return f"output and state equal in {len(_sizes(subject.steps))} ways of cutting; without the state {matters:.0%} off"


def _constant_size(subject: _Subject) -> str:
    with torch.no_grad():
        short = subject.fresh()(subject.inputs[:, :1], None).state
        long = subject.fresh()(subject.inputs, None).state
    sizes = [tuple(leaf.shape) for leaf in subject.tensors(short)], [tuple(leaf.shape) for leaf in subject.tensors(long)]
    if sizes[0] != sizes[1]:
        raise _Failed(f"the state grows: after 1 step {sizes[0]}, after {subject.steps} {sizes[1]}")
    return f"the same after 1 step and after {subject.steps}"


def _rows_apart(subject: _Subject) -> str:
    changed = subject.other_row()
    for training in (False, True):

        def called(inputs: Tensor, state: Any, training: bool = training) -> Called:
            torch.manual_seed(0)  # for the masks of dropout
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                return subject.fresh(training)(inputs, state)

        when = "in training mode " if training else ""
        plain = called(subject.inputs, None)
        other = called(changed, None)
        if not subject.apart(other.output[:1], plain.output[:1]):
            raise _Failed("another first row changes nothing in its own output")
        for row in range(1, subject.rows):
            share = subject.apart(other.output[row], plain.output[row])
            pairs = zip(subject.row(other.state, row), subject.row(plain.state, row), strict=True)
            if share := max(share, *(subject.apart(a, b) for a, b in pairs)):
                raise _Failed(
                    f"{when}other inputs of row 1 change row {row + 1} by {share:.0%}; are rows and steps swapped, "
                    "or does a norm see the batch?"
                )
        touched = called(subject.inputs, subject.with_row(plain.state, 0, lambda one: one + 0.5))
        continued = called(subject.inputs, plain.state)
        for row in range(1, subject.rows):
            if share := subject.apart(touched.output[row], continued.output[row]):
                raise _Failed(f"{when}another state of row 1 changes row {row + 1} by {share:.0%}")
    with torch.no_grad():
        alone, together = subject.fresh()(subject.inputs[1:2], None), subject.fresh()(subject.inputs, None)
    if share := subject.apart(alone.output, together.output[1:2]):
        raise _Failed(f"row 2 alone is off by {share:.0%} from row 2 among others")
    return "other inputs and another state of one row change no other row"


def _causal(subject: _Subject) -> str:
    half = subject.steps // 2
    changed = subject.inputs.clone()
    changed[:, half:] = subject.inputs[:, half:].flip(1).roll(1, 0)
    with torch.no_grad():
        plain, other = subject.fresh()(subject.inputs, None), subject.fresh()(changed, None)
    if not subject.apart(other.output[:, half:], plain.output[:, half:]):
        raise _Failed("other inputs change no output")
    if share := subject.apart(other.output[:, :half], plain.output[:, :half]):
        raise _Failed(f"later inputs change earlier outputs by {share:.0%}")
    return "other inputs later change no earlier output"


def _reset(subject: _Subject) -> str:
    with torch.no_grad():
        begun = subject.fresh()(subject.inputs, None)
        state = subject.fresh()(subject.other_row(), None).state
        continued = subject.fresh()(subject.inputs, state)
        reset = subject.fresh()(subject.inputs, subject.with_row(state, 0, torch.zeros_like))
        if share := subject.apart(reset.output[0], begun.output[0]):
            raise _Failed(
                f"a row whose state is zeros is off by {share:.0%} from one that begins; is the first state learned? "
                "Then say so with state=None, and reset to it"
            )
        if share := subject.apart(reset.output[1:], continued.output[1:]):
            raise _Failed(f"the reset of row 1 changes other rows by {share:.0%}")
        if not subject.apart(reset.output[0], continued.output[0]):
            raise _Failed("the reset changes nothing")
        model = subject.fresh()
        if isinstance(model.model, Core) and model.model.restarts:
            _restarts(subject)
            return "a row of zeros begins anew, also inside a chunk; the others go on"
    return "a row of zeros begins anew, and the others go on"


def _restarts(subject: _Subject) -> None:
    """A core of throughline that starts rows from zeros inside a chunk."""
    place = subject.steps // 3
    restart = torch.zeros(subject.rows, subject.steps, dtype=torch.bool)
    restart[0, place] = True
    core = subject.fresh().model
    output, _ = core(subject.inputs.transpose(0, 1), None, restart.t())
    plain, _ = core(subject.inputs.transpose(0, 1), None)
    begun, _ = core(subject.inputs[:1, place + 1 :].transpose(0, 1), None)
    if share := subject.apart(output[place + 1 :, :1], begun):
        raise _Failed(f"a row that restarts inside a chunk is off by {share:.0%}")
    if share := subject.apart(output[:, 1:], plain[:, 1:]):
        raise _Failed(f"a restart inside a chunk changes other rows by {share:.0%}")


def _detached(state: Any, requires_grad: bool = False) -> Any:
    def cut(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        copy = leaf.detach().clone()
        return copy.requires_grad_(requires_grad and copy.is_floating_point())

    return tree_map(cut, state)


def _gradients_stop(subject: _Subject) -> str:
    model = subject.fresh()
    with torch.no_grad():
        begin = subject.fresh()(subject.inputs, None).state
    begin = _detached(begin, requires_grad=True)
    state: Any = begin
    chunks = [subject.inputs[:, first : first + 2] for first in (0, 2, 4)]
    for number, chunk in enumerate(chunks):
        for leaf in subject.tensors(begin):
            leaf.grad = None
        output, state = model(chunk, state)
        if not output.requires_grad:
            raise _Failed("the output has no gradient: does it run without one, or in inference mode?")
        try:
            output.square().sum().backward()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            if "second time" not in str(error) and "inplace" not in str(error):
                raise
            kept = _new_tensors(model.model, subject.fresh().model)
            raise _Failed(
                f"backward of chunk {number + 1} fails: the graph of an earlier chunk is still there{kept}"
            ) from None
        gradients = [leaf.grad for leaf in subject.tensors(begin) if leaf.grad is not None]
        reached = any(bool(gradient.abs().max() > 0) for gradient in gradients)
        if number and reached:
            raise _Failed(f"the gradient of chunk {number + 1} goes back beyond a state that was detached")
        state = _detached(state)
    return "none goes back beyond a state that was detached"


def _gradients_travel(subject: _Subject) -> str:
    """Gradients with respect to the first state are compared with difference quotients, at every step."""
    with torch.no_grad():
        begin = subject.fresh()(subject.inputs, None).state
    exact = subject.dtype == torch.float64
    width, allowed, least = (1e-6, 1e-3, 1e-6) if exact else (1e-2, 0.1, 0.05)
    draw = torch.Generator().manual_seed(1)
    floating = [leaf for leaf in subject.tensors(begin) if leaf.is_floating_point()]
    ways = [torch.randn(leaf.shape, generator=draw, dtype=leaf.dtype) for leaf in floating]

    def moved(by: float) -> Any:
        way = iter(ways)
        return tree_map(
            lambda leaf: leaf + by * next(way) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf, begin
        )

    half = subject.steps // 2
    for sizes in ([subject.steps], [half, subject.steps - half]):
        with torch.no_grad():
            outputs = [subject.fresh().chunks(subject.inputs, sizes, moved(by)).output for by in (width, -width)]
            weights = torch.randn(outputs[0].shape, generator=draw, dtype=outputs[0].dtype)
            by_quotient = ((outputs[0] - outputs[1]) * weights).transpose(0, 1).flatten(1).sum(dim=1) / (2 * width)
        state = _detached(begin, requires_grad=True)
        leaves = [leaf for leaf in subject.tensors(state) if leaf.is_floating_point()]
        output = subject.fresh().chunks(subject.inputs, sizes, state).output
        of_step = (output * weights).transpose(0, 1).flatten(1).sum(dim=1)
        largest = float(by_quotient.abs().max())
        if not largest:
            raise _Failed("no output depends on the state")
        for step in range(subject.steps):
            if abs(float(by_quotient[step])) < least * largest:
                continue
            gradients = torch.autograd.grad(of_step[step], leaves, retain_graph=True, allow_unused=True)
            found = sum(float((g * way).sum()) for g, way in zip(gradients, ways, strict=True) if g is not None)
            if abs(found - float(by_quotient[step])) > allowed * max(abs(float(by_quotient[step])), least * largest):
                where = "from one chunk to the next" if len(sizes) > 1 else "inside a chunk" if step else "on its way in"
                what = "is cut" if not any(g is not None and g.abs().max() for g in gradients) else "is wrong"
                raise _Failed(
                    f"step {step + 1} depends on the first state, but its gradient {what} {where}: a detach too many?"
                )
    whole, chunked = (_weight_gradients(subject, sizes) for sizes in ([subject.steps], [half, subject.steps - half]))
    for name, gradient in whole.items():
        if share := subject.apart(chunked[name], gradient):
            raise _Failed(f"the gradient of {name} over two chunks is off by {share:.0%} from that of the whole")
    return f"through {subject.steps} steps and from chunk to chunk, as difference quotients say"


def _weight_gradients(subject: _Subject, sizes: list[int]) -> dict[str, Tensor]:
    model = subject.fresh()
    model.chunks(subject.inputs, sizes).output.square().mean().backward()  # type: ignore[no-untyped-call]
    return {name: weight.grad for name, weight in model.model.named_parameters() if weight.grad is not None}


def _resumes(subject: _Subject) -> str:
    half = subject.steps // 2
    first = subject.fresh()
    unsaved = [name for name, _ in _kept(first.model)]
    with torch.no_grad():
        _, state = first(subject.inputs[:, :half], None)
        file = io.BytesIO()
        torch.save({"weights": first.model.state_dict(), "state": state}, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        second = subject.fresh()
        for tensor in [*second.model.parameters(), *second.model.buffers()]:
            tensor.zero_()
        second.model.load_state_dict(saved["weights"])
        resumed, disturbed = second(subject.inputs[:, half:], saved["state"]), first(subject.inputs[:, half:], state)
        whole = subject.fresh()(subject.inputs, None)
    if share := subject.apart(resumed.output, disturbed.output):
        raise _Failed(f"from a file with its weights and the state it goes on {share:.0%} off")
    if share := subject.apart(resumed.output, whole.output[:, half:]):
        raise _Failed(f"from a file it goes on {share:.0%} off from a run without a break")
    if unsaved:
        raise _Failed(f"{', '.join(unsaved)}: tensors that state_dict does not hold; register them as buffers")
    return "from a file with its weights and the state it goes on exactly"


PROPERTIES: dict[str, Callable[[_Subject], str]] = {
    "holds weights only": _no_memory,
    "chunks equal the whole": _chunks_are_the_whole,
    "the state keeps its size": _constant_size,
    "rows do not touch": _rows_apart,
    "steps do not read ahead": _causal,
    "resets isolate": _reset,
    "gradients stop at a detach": _gradients_stop,
    "gradients travel": _gradients_travel,
    "resumes exactly": _resumes,
}
NAMES = ("takes and returns a state", *PROPERTIES)
"""The properties in the order of a report."""
