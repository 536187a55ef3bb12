"""The saved inspector: a folder with its network, preprocessing, calibration, thresholds and where it all came from."""
