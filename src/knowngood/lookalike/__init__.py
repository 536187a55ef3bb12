"""A simulator of parts in carrier tape: photographs with known labels, defects, masks and boxes."""
