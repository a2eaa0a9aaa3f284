"""LSTM sequence generators, trained on sequences far longer than one batch, without losing the thread.

The rooms in the order of the story, each importing only from those before it: `plumbing`, `settings`, `data`, `regimes`,
`batches`, `model`, `evaluation`, `config`, `runs`, `training`, `results`, `commands`.

Words, one per concept:
    token, vocab, codec     integer id; table symbol <-> id; how raw data become steps and are written again
    sequence, line          one raw example; sequences laid end to end, which a regime cuts
    stream, chunk           one of B contiguous strips; T steps of every stream, one stateful batch
    window, stride          a cut of T steps anywhere; the distance between cuts
    bptt                    how many steps a gradient can travel
    state                   what a core carries from batch to batch
    carry, detach, reset    hand to the next batch; cut the graph; start from zeros
    regime                  how a line becomes batches, and when state resets
    core, head, reading     the recurrent part; what is predicted and how it is scored; one way to evaluate
    nll                     mean negative log-likelihood per scored step, in nats; perplexity and bits derive from it

Shape letters, used at line ends throughout: B rows, T steps, V vocabulary, E features of an embedding, P of a prediction,
L layers, H hidden size, N steps of a line, S sequences, K batches. Gates lie in PyTorch's order i, f, g, o.
"""

__version__ = "0.2.0"
