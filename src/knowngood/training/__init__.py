"""Fitting an inspector: configuration, batches, fine-tuning, heads."""
