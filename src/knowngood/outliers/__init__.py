"""Which training images do not belong: detectors, suspects, near-duplicates with opposing labels.

This floor takes arrays (features, labels, out-of-sample scores) and gives scores and lists; it removes nothing.
"""
