"""Sweeps and searches: many runs by one command. What a member does is read from its folder, whoever runs it, and where."""
