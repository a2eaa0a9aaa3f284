"""LSTM sequence generators, trained on sequences far longer than one batch, without losing the thread.

Read in this order: `vocab`, `corpus`, `regimes`, `batch`, `model`, `learner`, `datamodule`, `callbacks`, `training`.

Shape letters, used at line ends throughout: B rows (streams), T steps, V vocabulary, L layers, H hidden size.
"""

__version__ = "0.1.0"
