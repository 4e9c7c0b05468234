"""Benchmarks: ratios against a peer or a limit of the same run, never a test."""
