"""Losses on soft labels, and the training of a compiled network."""
