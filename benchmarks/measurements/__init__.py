"""What is measured, and how: programs work in turns, and each figure becomes a row."""
