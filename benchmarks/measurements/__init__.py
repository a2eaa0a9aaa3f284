"""The measurements: programs work in turns, and each result becomes a row."""
