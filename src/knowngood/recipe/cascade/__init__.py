"""A small network decides what it is certain of and passes the rest on to the large one; one certificate for both."""
