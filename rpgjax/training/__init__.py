"""Training: one compiled program per run, evaluation, checkpoints, reports and figures.

Nothing is imported here: `rpgjax.training.settings` stays cheap to import for those below.
"""
