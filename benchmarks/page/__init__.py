"""The output of the rows: a table, a picture, and RESULTS.md with both."""
