"""Backbones, where their weights come from, the classifier around them, and how it is trained."""
