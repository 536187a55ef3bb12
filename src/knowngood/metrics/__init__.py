"""How good scores are: curves, figures with intervals, thresholds with certificates, paired comparisons."""
