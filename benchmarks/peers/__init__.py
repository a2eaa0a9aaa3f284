"""The programs that are measured against each other, and what they share.

Some run in an environment without throughline and without PyTorch: `pace` and `shakespeare` need neither.
"""
