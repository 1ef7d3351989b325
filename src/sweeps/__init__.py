"""Sweeps: many runs of one recipe, placed on GPUs and machines by Ray Tune."""
