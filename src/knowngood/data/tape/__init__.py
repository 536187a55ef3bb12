"""A look-alike of real parts in carrier tape, drawn from numbers, with the truth about every pixel known."""

GENERATOR_VERSION = 2  # goes up when the same seed gives other bytes: cached sets of older versions are not reused
