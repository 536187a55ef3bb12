"""Scores -> metrics with intervals, calibration, and a threshold under an escape budget; numpy only."""
