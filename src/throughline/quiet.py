"""Silences what libraries say on every run and what asks nothing of the user, each with its reason."""

import logging
import warnings


def quieten() -> None:
    for name in ("lightning.pytorch", "lightning.fabric"):  # which devices were found, which tips there are
        logging.getLogger(name).setLevel(logging.ERROR)
    # torch 2.13 deprecates a class that lightning 2.6 still calls
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    # a batch is one slice of an array in memory, which no worker makes faster
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
