"""throughline compared with other programs: the speed of each, and the loss that each reaches in the same time.

The list below has one line per file, in reading order. A file imports only from files above it. A program is started as a
module, from the project's root: `python -m benchmarks.peers.bare`.

    peers/                  the programs; each runs in its own process
        pace                work in slices of some seconds
        shakespeare         the text that all programs read
        product             throughline itself
        bare                the same model in a plain PyTorch loop
        keras_stateful      the same model in Keras
        asker               the code of the person who asked: one step per batch
        transformer         nanoGPT's setting for a CPU
        matmul              matrix products alone
    measurements/           the measurements
        environment         the two Python environments and the machine
        figures             a result with its spread; a row that compares it with a target
        duel                programs that work in turns
        programs            the programs as commands
        speed               rows: tokens per second
        losses              rows: the loss after a given time, the time to a given loss
        generation          a program: characters per second
        using               rows: starting, memory, generation
        openings            a program: the text that a network writes from an empty state
        checks              a program: the cost of the checks for finite numbers
        threads             a program: threads that share the rows, or each product
        sequences           a program: sequences that are not joined, against one long text
        vocabulary          a program: 20,000 symbols, against the products of the head alone
        known               a program: data with known answers
    page/                   the output of the rows
        kept                rows in files
        table               rows as Markdown
        picture             rows as bars
        results             RESULTS.md as a whole
        seeds               figures of several seeds
    run                     `make bench` writes RESULTS.md
    scaling                 `make scaling` writes SCALING.md
    recipes                 writes RECIPES.md: regimes, cores and optimizers compared
    reference               writes REFERENCE.md: beside published figures
    speedrun                writes SPEEDRUN.md: the board
    gpu                     writes GPU.md: streams, hidden size and precision on a GPU
"""
