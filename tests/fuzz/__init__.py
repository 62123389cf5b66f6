"""Fuzzers: damaged inputs of every kind, seeded, each given to its reader."""
