"""How the rows are written down: the table, the picture, and RESULTS.md around them."""
