"""Lets `python -m knowngood` do what `knowngood` does."""

from knowngood.cli.main import run

if __name__ == "__main__":
    run()
