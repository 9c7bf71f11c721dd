"""Benchmarks: starconv beside its peers, in one run, row by row."""
