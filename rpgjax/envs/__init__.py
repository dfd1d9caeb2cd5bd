"""Tasks: episodes over any Brax `Env`, the registry of names, and analytic tasks in pure JAX."""
