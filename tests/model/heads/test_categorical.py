"""The categorical head on large vocabularies, whose logits are computed in parts."""

import pytest
import torch
from torch import Tensor

from throughline.model.heads import Head, categorical
from throughline.model.heads.categorical import CategoricalHead, SoftmaxNLL
from throughline.training.internals import onednn_multiplies

T, B, H, V = 5, 3, 4, 11


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 4 rows; the last of the 15 rows is a part of 3."""
    monkeypatch.setattr(categorical, "LARGE", V)
    monkeypatch.setattr(categorical, "PART", 4 * V * 4)
    vars(SoftmaxNLL.memory).clear()


def built(dtype: torch.dtype) -> tuple[CategoricalHead, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    head = CategoricalHead(H, V).to(dtype)
    output = (3 * torch.randn(T, B, H, dtype=dtype)).requires_grad_()
    return head, output, torch.randint(0, V, (T, B)), torch.rand(T, B, dtype=dtype)


def gradients(nll: Tensor, weights: Tensor, head: CategoricalHead, output: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad((nll * weights).sum(), [output, head.weight, head.bias]))


@pytest.mark.usefixtures("small_parts")
def test_the_nll_in_parts_is_that_of_all_logits_and_so_are_its_gradients() -> None:
    head, output, targets, weights = built(torch.float64)
    whole = Head.nll_of(head, output, targets)
    for _ in range(2):  # the second time in the memory of the first
        nll = head.nll_of(output, targets)
        assert nll.grad_fn is not None
        torch.testing.assert_close(nll, whole, rtol=0, atol=1e-12)
        for one, other in zip(
            gradients(nll, weights, head, output), gradients(whole.clone(), weights, head, output), strict=True
        ):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
            assert one.abs().max() > 0.01
        whole = Head.nll_of(head, output, targets)
    assert hasattr(SoftmaxNLL.memory, "last")


@pytest.mark.usefixtures("small_parts")
def test_the_nll_of_a_target_that_is_almost_impossible_is_finite() -> None:
    head, output, targets, _ = built(torch.float32)
    with torch.no_grad():
        head.weight.mul_(100)
    whole, nll = Head.nll_of(head, output, targets), head.nll_of(output, targets)
    assert nll.max() > 104  # where a probability in float32 is 0
    torch.testing.assert_close(nll, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("small_parts")
def test_under_autocast_the_products_are_in_bfloat16_and_the_nll_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", onednn_multiplies("bf16-mixed"))
    head, output, targets, weights = built(torch.float32)
    exact = Head.nll_of(head, output, targets)
    with torch.autocast("cpu", torch.bfloat16):
        nll = head.nll_of(output, targets)
    assert nll.dtype == torch.float32
    assert not hasattr(SoftmaxNLL.memory, "last")
    torch.testing.assert_close(nll, exact, rtol=0.02, atol=0.05)
    for one, other in zip(gradients(nll, weights, head, output), gradients(exact, weights, head, output), strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.05)
    assert hasattr(SoftmaxNLL.memory, "last")
    assert SoftmaxNLL.memory.last.dtype == torch.bfloat16


@pytest.mark.usefixtures("small_parts")
def test_scores_in_parts_are_those_of_all_logits() -> None:
    head, output, targets, _ = built(torch.float64)
    targets[:3] = head(output).argmax(-1)[:3]
    nll, correct = Head.score(head, output, targets)
    with torch.inference_mode():
        in_parts, hits = head.score(output, targets)
    torch.testing.assert_close(in_parts, nll.detach(), rtol=0, atol=1e-12)
    assert correct is not None
    assert hits is not None
    assert torch.equal(hits, correct)
    assert 9 <= int(hits.sum()) < T * B


@pytest.mark.usefixtures("small_parts")
def test_a_second_backward_pass_fails_rather_than_be_wrong() -> None:
    head, output, targets, _ = built(torch.float64)
    nll = head.nll_of(output, targets).sum()
    nll.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    with pytest.raises(RuntimeError, match="backward only once"):
        nll.backward()  # type: ignore[no-untyped-call]


def test_a_small_vocabulary_is_not_cut_into_parts() -> None:
    head, output, targets, _ = built(torch.float32)
    assert type(head.nll_of(output, targets).grad_fn).__name__ != "SoftmaxNLLBackward"
