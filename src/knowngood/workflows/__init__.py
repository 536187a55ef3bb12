"""What the verbs do, from data to a finished folder: train, audit, explain, generate."""
