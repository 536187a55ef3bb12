"""Prediction on a cluster: photographs listed in parts, workers that keep a recipe open, scores that agree."""
