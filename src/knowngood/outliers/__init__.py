"""What is wrong with a training set: outliers, label issues, conflicting duplicates, rare defects."""
