"""How fast this machine multiplies matrices: the rate that a training step is held against.

    python benchmarks/matmul.py --precision bf16-mixed --library oneDNN

`tokens_per_second` here are floating-point operations per second.
"""

import torch
import torch.nn.functional as F

from bare import keep_freed_memory
from pace import Pace, parser


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    options.add_argument("--library", choices=("torch.mm", "oneDNN"), default="torch.mm", help="the first is MKL in float32")
    options.add_argument("--size", type=int, default=2048)
    arguments = options.parse_args()
    keep_freed_memory()
    dtype = torch.bfloat16 if arguments.precision == "bf16-mixed" else torch.float32
    a, b, product = (torch.randn(arguments.size, arguments.size, dtype=dtype) for _ in range(3))
    for_onednn = a.to_mkldnn(), b.to_mkldnn()
    pace = Pace(arguments, peer=f"matrices of {arguments.size} x {arguments.size}", precision=arguments.precision)
    pace.begin()
    while True:
        if arguments.library == "oneDNN":
            F.linear(*for_onednn)
        else:
            torch.mm(a, b, out=product)
        pace.step(2 * arguments.size**3)


if __name__ == "__main__":
    main()
