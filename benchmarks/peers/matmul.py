"""How fast this machine multiplies matrices. A training step is compared with this rate.

    python -m benchmarks.peers.matmul --precision bf16-mixed --library oneDNN --size 1024
    python -m benchmarks.peers.matmul --shapes step

The second command computes only the products of one training step, at their own shapes: no gates, no copies, no optimizer.
Each product uses the library that is faster for it. `tokens_per_second` means floating-point operations per second here.
"""

import timeit
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.peers.bare import keep_freed_memory
from benchmarks.peers.pace import Pace, parser

LIBRARIES = ("torch.mm", "oneDNN")
"""In float32, the first uses MKL."""


def product(m: int, k: int, n: int, dtype: torch.dtype, library: str) -> Callable[[], Any]:
    """(m, k) times (k, n)."""
    a, b = torch.randn(m, k, dtype=dtype), torch.randn(n, k, dtype=dtype)
    if library == "oneDNN":
        a, b = a.to_mkldnn(), b.to_mkldnn()
        return lambda: F.linear(a, b)
    b, result = b.t().contiguous(), torch.empty(m, n, dtype=dtype)
    return lambda: torch.mm(a, b, out=result)


def faster_product(m: int, k: int, n: int, dtype: torch.dtype) -> Callable[[], Any]:
    """The product by the library that is faster at these sizes."""
    both = [product(m, k, n, dtype, library) for library in LIBRARIES]
    return min(both, key=lambda multiply: min(timeit.repeat(multiply, repeat=5, number=10)))


def step_shapes(B: int, T: int, E: int, H: int, V: int) -> list[tuple[int, int, int]]:  # noqa: N803
    """The products (m, k, n) of a training step. T of them need the previous time step, and T - 1 the next one."""
    forward = [(T * B, E, 4 * H), *[(B, H, 4 * H)] * T, (T * B, H, V)]
    by_inputs = [(T * B, V, H), *[(B, 4 * H, H)] * (T - 1), (T * B, 4 * H, E)]
    by_weights = [(V, T * B, H), (4 * H, T * B, H), (4 * H, T * B, E)]
    return forward + by_inputs + by_weights


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    options.add_argument("--shapes", choices=("square", "step"), default="square")
    options.add_argument("--library", choices=LIBRARIES, default="torch.mm", help="for square matrices")
    options.add_argument("--size", type=int, default=2048, help="of square matrices")
    arguments = options.parse_args()
    keep_freed_memory()
    dtype = torch.bfloat16 if arguments.precision == "bf16-mixed" else torch.float32
    if arguments.shapes == "square":
        shapes = [(arguments.size,) * 3]
        products = [product(*shapes[0], dtype, arguments.library)]
    else:
        shapes = step_shapes(B=64, T=32, E=64, H=256, V=66)
        made = {shape: faster_product(*shape, dtype) for shape in dict.fromkeys(shapes)}
        products = [made[shape] for shape in shapes]
    operations = sum(2 * m * k * n for m, k, n in shapes)
    pace = Pace(arguments, peer=f"{len(products)} products", precision=arguments.precision)
    pace.begin()
    while True:
        for multiply in products:
            multiply()
        pace.step(operations)


if __name__ == "__main__":
    main()
