"""Transformed copies of a set's images, written once, instead of transforms on the fly."""
