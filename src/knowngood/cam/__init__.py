"""CAM methods, maps of a photograph, the regions in them, and their agreement with known defects."""
