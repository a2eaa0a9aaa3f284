"""The recurrence of minGRU and minLSTM: step by step and by a scan, with its gradients."""

import pytest
import torch

from throughline.model.cores.minimal import MinGRUCore, MinLSTMCore, linear_recurrence, scanned, step_by_step


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 8, 33])
def test_a_scan_is_the_steps_one_by_one(steps: int) -> None:
    torch.manual_seed(0)
    a, b = torch.rand(steps, 3, 4, dtype=torch.float64), torch.randn(steps, 3, 4, dtype=torch.float64)
    before = torch.randn(3, 4, dtype=torch.float64)
    h = step_by_step(a, b, before)
    torch.testing.assert_close(scanned(a, b, before), h, rtol=0, atol=1e-13)
    expected = before
    for t in range(steps):
        expected = a[t] * expected + b[t]
        assert torch.equal(h[t], expected) or (h[t] - expected).abs().max() < 1e-15


def test_its_gradients_are_those_of_differences() -> None:
    torch.manual_seed(0)
    parts = [torch.rand(*shape, dtype=torch.float64, requires_grad=True) for shape in ((5, 2, 3), (5, 2, 3), (2, 3))]
    assert torch.autograd.gradcheck(linear_recurrence, parts)


def test_a_step_by_hand() -> None:
    """One cell, whose gates are chosen: z = 0.25 keeps three quarters; f = 0.5 and i = 0.25 keep two thirds."""
    gru, lstm = MinGRUCore(1, 1, 1), MinLSTMCore(1, 1, 1)
    third = torch.log(torch.tensor(1.0) / 3)  # the sigmoid of it is a quarter
    kept, added = gru.moved(torch.stack([third, torch.tensor(8.0)])[None, None])
    assert (kept.item(), added.item()) == (pytest.approx(0.75), pytest.approx(2.0))
    kept, added = lstm.moved(torch.stack([torch.tensor(0.0), third, torch.tensor(6.0)])[None, None])
    assert (kept.item(), added.item()) == (pytest.approx(2 / 3), pytest.approx(2.0))
