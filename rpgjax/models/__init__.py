"""Flax modules: the networks that heads and critics are made of."""
