"""Attacks on real runs, hundreds of times at random: `make torture`, about twenty minutes.

`kills`: SIGKILL at any moment; `signals`: signals that a run must hear; `damage`: random damage of every file that a run
leaves; `pairs`: two runs at once. Every life is its own process. It is forked from this one, so that nothing has to be
imported again.
"""
