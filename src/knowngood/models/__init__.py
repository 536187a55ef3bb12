"""Backbones, where their weights come from, the classifier around them, features, conventional classifiers."""
