"""Photographs -> records -> splits -> batches; above this floor nobody knows a file layout."""
