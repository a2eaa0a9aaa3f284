"""The programs that are compared with each other, and the code that they share.

Some run in an environment without throughline. So `pace` and `shakespeare` need neither throughline nor PyTorch.
"""
