"""Where a network looked: maps, the regions in them, and how well they agree with the truth."""
