"""The same prediction on a cluster: a list cut into parts, workers that keep a recipe open, a Parquet file a part."""
