"""LSTM sequence generators, trained on sequences far longer than one batch, without losing the thread.

    import throughline as tl

    run = tl.train(tl.Config(data=tl.Text("my.txt"), budget=tl.Budget(seconds=60)))
    print(run.generate("Once ", 500))

Importing this package imports nothing else. Each name below imports its module when it is first used.

The rooms, in the order of the story: `plumbing`, `settings`, `data`, `regimes`, `batches`, `model`, `checking`,
`evaluation`, `config`, `runs`, `training`, `results`, `commands`. Each room imports only from those before it.

Words, one per concept:
    token, vocab, codec     integer id; table symbol <-> id; turns raw data into steps, and steps into text
    sequence, line          one raw example; sequences laid end to end; a regime cuts the line
    stream, chunk           one of B contiguous strips; T steps of every stream, one stateful batch
    window, stride          T steps cut out anywhere; the distance between two windows
    bptt                    how many steps a gradient can travel
    state                   the memory that a core carries from batch to batch
    carry, detach, reset    hand to the next batch; cut the graph; start from zeros
    regime                  how a line becomes batches, and when state resets
    core, head, reading     the recurrent part; the part that predicts and scores; one way to evaluate
    nll                     mean negative log-likelihood per scored step, in nats; perplexity and bits derive from it

Shape letters, used in comments at line ends: B rows, T steps, V vocabulary, F features of a frame, E of an embedding,
P of a prediction, L layers, H hidden size, N steps of a line, S sequences, K batches. Gates lie in the order i, f, g, o.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from throughline.checking import check as check
    from throughline.config import Budget as Budget
    from throughline.config import Config as Config
    from throughline.config import Logger as Logger
    from throughline.config import Numerics as Numerics
    from throughline.config import Sampling as Sampling
    from throughline.config import Schedule as Schedule
    from throughline.config import Trainer as Trainer
    from throughline.data.codecs.bpe import Bpe as Bpe
    from throughline.data.codecs.bytes import Bytes as Bytes
    from throughline.data.codecs.characters import Characters as Characters
    from throughline.data.codecs.frames import Frames as Frames
    from throughline.data.codecs.ids import Ids as Ids
    from throughline.data.codecs.symbols import Symbols as Symbols
    from throughline.data.codecs.words import Words as Words
    from throughline.data.corpus import Corpus as Corpus
    from throughline.data.sources.array import Array as Array
    from throughline.data.sources.lines import Lines as Lines
    from throughline.data.sources.markov import Markov as Markov
    from throughline.data.sources.reber import Reber as Reber
    from throughline.data.sources.stdlib import StandardLibrary as StandardLibrary
    from throughline.data.sources.table import Table as Table
    from throughline.data.sources.text import Text as Text
    from throughline.data.sources.tokens import Tokens as Tokens
    from throughline.evaluation.protocol import Evaluation as Evaluation
    from throughline.evaluation.readings.carried import Carried as Carried
    from throughline.evaluation.readings.dynamic import Dynamic as Dynamic
    from throughline.evaluation.readings.reset import Reset as Reset
    from throughline.model.optimizers import SGD as SGD
    from throughline.model.optimizers import Adam as Adam
    from throughline.model.optimizers import AdamW as AdamW
    from throughline.model.optimizers import RMSprop as RMSprop
    from throughline.model.settings import GRU as GRU
    from throughline.model.settings import LSTM as LSTM
    from throughline.model.settings import Bernoulli as Bernoulli
    from throughline.model.settings import Categorical as Categorical
    from throughline.model.settings import Mixture as Mixture
    from throughline.plumbing.errors import UserError as UserError
    from throughline.regimes.onestep import Onestep as Onestep
    from throughline.regimes.padded import Padded as Padded
    from throughline.regimes.segments import Segments as Segments
    from throughline.regimes.shuffled_carry import ShuffledCarry as ShuffledCarry
    from throughline.regimes.stateful import Stateful as Stateful
    from throughline.regimes.windowed import Windowed as Windowed
    from throughline.runs.trained import Trained as Trained
    from throughline.runs.trained import load as load
    from throughline.training.run import Run as Run
    from throughline.training.run import train as train

    generate, evaluate = Trained.generate, Trained.evaluate

__version__ = "0.3.0"

_HOMES = {
    "checking": ("check",),
    "config": ("Budget", "Config", "Logger", "Numerics", "Sampling", "Schedule", "Trainer"),
    "data.codecs.bpe": ("Bpe",),
    "data.codecs.bytes": ("Bytes",),
    "data.codecs.characters": ("Characters",),
    "data.codecs.frames": ("Frames",),
    "data.codecs.ids": ("Ids",),
    "data.codecs.symbols": ("Symbols",),
    "data.codecs.words": ("Words",),
    "data.corpus": ("Corpus",),
    "data.sources.array": ("Array",),
    "data.sources.lines": ("Lines",),
    "data.sources.markov": ("Markov",),
    "data.sources.reber": ("Reber",),
    "data.sources.stdlib": ("StandardLibrary",),
    "data.sources.table": ("Table",),
    "data.sources.text": ("Text",),
    "data.sources.tokens": ("Tokens",),
    "evaluation.protocol": ("Evaluation",),
    "evaluation.readings.carried": ("Carried",),
    "evaluation.readings.dynamic": ("Dynamic",),
    "evaluation.readings.reset": ("Reset",),
    "model.optimizers": ("SGD", "Adam", "AdamW", "RMSprop"),
    "model.settings": ("GRU", "LSTM", "Bernoulli", "Categorical", "Mixture"),
    "plumbing.errors": ("UserError",),
    "regimes.onestep": ("Onestep",),
    "regimes.padded": ("Padded",),
    "regimes.segments": ("Segments",),
    "regimes.shuffled_carry": ("ShuffledCarry",),
    "regimes.stateful": ("Stateful",),
    "regimes.windowed": ("Windowed",),
    "runs.trained": ("Trained", "evaluate", "generate", "load"),
    "training.run": ("Run", "train"),
}
"""The public names by the modules that they come from."""

__all__ = ["__version__", *sorted(name for names in _HOMES.values() for name in names)]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f"throughline.{home}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
