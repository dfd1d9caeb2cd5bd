"""`python -m rpgjax`."""

from rpgjax.cli import run

if __name__ == "__main__":
    run()
