"""The same model, streams and steps in Keras 3, on TensorFlow, JAX or PyTorch.

    benchmarks/.venv/bin/python -m benchmarks.peers.keras_stateful --backend jax --streams 64

`LSTM(stateful=True)` keeps the state of each row from batch to batch. `shuffle=False` keeps the batches in order.
"""

import os
from pathlib import Path
from typing import Any

from benchmarks.peers.pace import Pace, parser
from benchmarks.peers.shakespeare import chunks, path, read


def build(keras: Any, vocab_size: int, streams: int, bptt: int, unroll: bool, hidden_size: int = 256) -> Any:
    """Embedding, LSTM and logits, as in throughline's `model=lstm256`. Only PyTorch's LSTM has a second bias vector."""

    class LSTM(keras.layers.LSTM):  # type: ignore[misc]
        """Begins from a copy of the state. On PyTorch, Keras overwrites the old state, but the backward pass needs it."""

        def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
            if keras.backend.backend() == "torch":
                initial_state = [keras.ops.copy(state) for state in self.states]
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)

    return keras.Sequential(
        [
            keras.Input(batch_shape=(streams, bptt), dtype="int32"),
            keras.layers.Embedding(vocab_size, 64),
            LSTM(hidden_size, stateful=True, return_sequences=True, unroll=unroll),
            keras.layers.Dense(vocab_size, dtype="float32"),
        ]
    )


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--backend", choices=("tensorflow", "jax", "torch"), required=True)
    options.add_argument("--streams", type=int, default=32)
    options.add_argument("--bptt", type=int, default=64)
    options.add_argument("--precision", choices=("float32", "mixed_bfloat16"), default="float32")
    options.add_argument("--jit", choices=("auto", "yes", "no"), default="auto", help="jit_compile")
    options.add_argument("--unroll", action="store_true", help="the steps written out in the graph, without a loop")
    options.add_argument("--execution", type=int, default=0, help="fit with steps_per_execution; 0: train_on_batch")
    options.add_argument("--text", type=Path, default=path())
    arguments = options.parse_args()
    os.environ["KERAS_BACKEND"] = arguments.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    keras.utils.set_random_seed(1)
    keras.config.set_dtype_policy(arguments.precision)
    train, _, vocab_size = read(arguments.text)
    inputs, targets = (part.astype("int32") for part in chunks(train, arguments.streams, arguments.bptt))  # K, B, T
    model = build(keras, vocab_size, arguments.streams, arguments.bptt, arguments.unroll)
    model.compile(
        optimizer=keras.optimizers.AdamW(0.01, weight_decay=0.01, beta_1=0.9, beta_2=0.99, global_clipnorm=1.0),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile={"auto": "auto", "yes": True, "no": False}[arguments.jit],
        steps_per_execution=max(arguments.execution, 1),
    )
    pace = Pace(arguments, peer=f"Keras {keras.__version__} on {arguments.backend}", parameters=model.count_params())

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]
        done = -1

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            pace.about["mean_train_nll"] = float(logs["loss"])  # waits until the step is done
            pace.step((batch - self.done) * inputs[0].size)
            self.done = batch

    pace.begin()
    if arguments.execution:
        usable = len(inputs) // arguments.execution * arguments.execution
        rows = [part[:usable].reshape(-1, arguments.bptt) for part in (inputs, targets)]
        while True:
            model.fit(*rows, batch_size=arguments.streams, shuffle=False, verbose=0, callbacks=[Clock()])
    while True:
        for x, y in zip(inputs, targets, strict=True):
            pace.about["mean_train_nll"] = float(model.train_on_batch(x, y))
            pace.step(inputs[0].size)


if __name__ == "__main__":
    main()
