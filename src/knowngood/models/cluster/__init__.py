"""Features on a cluster: each content computed once, parts of whole batches, the plain way's rows in its order."""
