"""throughline beside other programs: how fast each of them is, and what it learns in the same time.

Each file is a line below, in reading order. A file imports only from those above it, and a program starts as a module from
the project's root: `python -m benchmarks.peers.bare`.

    peers/                  the programs, each of them a process of its own
        pace                a program works in slices of seconds
        shakespeare         the text that all of them read
        product             throughline itself
        bare                the same model in a plain PyTorch loop
        keras_stateful      the same model in Keras
        asker               the asker's own code: one step a batch
        transformer         nanoGPT's setting for a CPU
        matmul              matrix products alone
    measurements/           what is measured, and how
        environment         the two environments and the machine
        figures             a figure with its spread; a row that holds it against a target
        duel                programs that work in turns
        programs            the programs as commands
        speed               rows: tokens per second
        losses              rows: the loss after a time, the time to a loss
        generation          a program: characters per second
        using               rows: starting, memory, generation
        openings            a program: what a network writes from an empty state
        checks              a program: what the checks for finite numbers cost
    page/                   how the rows are written down
        kept                rows in files
        table               rows as Markdown
        picture             rows as bars
        results             RESULTS.md as a whole
    run                     `make bench` writes RESULTS.md
    scaling                 `make scaling` writes SCALING.md
"""
