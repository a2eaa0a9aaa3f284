"""The code of the person who asked, called "the question's code" in RESULTS.md.

It is a Keras LSTM(256). A batch is one sample of one time step, the state is kept, and nothing is shuffled.

    benchmarks/.venv/bin/python -m benchmarks.peers.asker --backend tensorflow
    benchmarks/.venv/bin/python -m benchmarks.peers.asker --backend jax --updates 1000 10000

(On PyTorch it ends with an error: Keras overwrites the kept state, but the backward pass still needs the old one.)

By default it measures the updates per second. With `--updates` it trains these numbers of updates. For each number it prints
the carried validation loss, and the seconds that training alone has taken until then.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.pace import Pace, parser
from benchmarks.peers.shakespeare import path, read

SEGMENT = 50_000
"""The number of samples that are made one-hot at a time. All samples at once would take half a gigabyte."""


def build(keras: Any, vocab_size: int, steps: int, unroll: bool = False) -> Any:
    """The model of the person who asked, for one stream. With more than one step, it is the model for validation."""
    return keras.Sequential(
        [
            keras.Input(batch_shape=(1, steps, vocab_size)),
            keras.layers.LSTM(256, stateful=True, return_sequences=steps > 1, unroll=unroll),
            keras.layers.Dense(vocab_size, activation="softmax"),
        ]
    )


def samples(tokens: np.ndarray, first: int, last: int, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """One-hot inputs (samples, 1, V) and targets (samples, V)."""
    table = np.eye(vocab_size, dtype=np.float32)
    return table[tokens[first:last]][:, None], table[tokens[first + 1 : last + 1]]


def carried_nll(keras: Any, model: Any, tokens: np.ndarray, vocab_size: int, steps: int = 256) -> float:
    """Mean nll of one carried pass over the line in one row. Fewer than `steps` tokens at its end are left out."""
    reader = build(keras, vocab_size, steps)
    reader.set_weights(model.get_weights())
    count = (len(tokens) - 1) // steps
    inputs = np.eye(vocab_size, dtype=np.float32)[tokens[: count * steps]].reshape(count, steps, vocab_size)
    probabilities = reader.predict(inputs, batch_size=1, verbose=0).reshape(-1, vocab_size)
    chosen = probabilities[np.arange(len(probabilities)), tokens[1 : count * steps + 1]]
    return float(-np.log(np.maximum(chosen, 1e-7), dtype=np.float64).mean())


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--backend", choices=("tensorflow", "jax"), required=True)
    options.add_argument("--loop", choices=("fit", "batch"), default="fit", help="model.fit or model.train_on_batch")
    options.add_argument("--jit", choices=("auto", "yes", "no"), default="auto", help="jit_compile")
    options.add_argument("--execution", type=int, default=1, help="steps_per_execution; not set in the question")
    options.add_argument("--unroll", action="store_true", help="no loop over the single step; not set in the question")
    options.add_argument("--updates", type=int, nargs="+", help="train these numbers of updates and validate")
    options.add_argument("--text", type=Path, default=path())
    arguments = options.parse_args()
    os.environ["KERAS_BACKEND"] = arguments.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    keras.utils.set_random_seed(1)
    train, val, vocab_size = read(arguments.text)
    model = build(keras, vocab_size, 1, arguments.unroll)
    model.compile(
        loss="categorical_crossentropy",
        optimizer="adam",
        jit_compile={"auto": "auto", "yes": True, "no": False}[arguments.jit],
        steps_per_execution=arguments.execution,
    )

    def fit(first: int, last: int, callback: Any) -> None:
        x, y = samples(train, first, last, vocab_size)
        model.fit(x, y, batch_size=1, shuffle=False, epochs=1, verbose=0, callbacks=[callback])

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]
        done = -1

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            pace.step(batch - self.done)
            self.done = batch

    class Stopwatch(keras.callbacks.Callback):  # type: ignore[misc]
        """Starts after the first update, so that compiling and copying the samples are not counted."""

        seconds = 0.0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 0:
                self.began = time.perf_counter()

        def on_train_end(self, logs: Any = None) -> None:
            self.seconds += time.perf_counter() - self.began

    about = {"peer": f"the question's Keras {keras.__version__} on {arguments.backend}", "parameters": model.count_params()}
    if arguments.updates:
        stopwatch, points, first = Stopwatch(), [], 0
        for goal in arguments.updates:
            while first < goal:
                last = min(first + SEGMENT, goal)
                fit(first, last, stopwatch)
                first = last
            nll = carried_nll(keras, model, val, vocab_size)
            points.append({"updates": goal, "seconds": stopwatch.seconds, "val_nll": nll})
        print(json.dumps({**about, "points": points}))
        return
    pace = Pace(arguments, **about)
    pace.begin()
    x, y = samples(train, 0, SEGMENT, vocab_size)
    while True:
        if arguments.loop == "fit":
            model.fit(x, y, batch_size=1, shuffle=False, epochs=1, verbose=0, callbacks=[Clock()])
        else:
            for k in range(len(x)):
                model.train_on_batch(x[k : k + 1], y[k : k + 1])
                pace.step(1)


if __name__ == "__main__":
    main()
