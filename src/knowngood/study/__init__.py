"""Whole jobs in one call: data in, a trained recipe, its figures and its report out."""
