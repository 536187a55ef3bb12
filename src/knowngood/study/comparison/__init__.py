"""Which network should I use? The same recipe of training for all of them, on the same splits, in one table."""
