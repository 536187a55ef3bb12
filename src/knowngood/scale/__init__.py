"""Work on a cluster: lists cut into parts and their files, workers, and functions that run in pieces elsewhere."""
