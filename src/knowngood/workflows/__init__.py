"""What the verbs do, from data to a finished folder: train, evaluate, cascade, explain, generate."""
