"""Nexmark, the benchmark of an auction house: a generator of its events, and queries 0 to 8 as flows."""
