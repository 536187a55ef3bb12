"""Files to decisions as one pipeline: read, decode, resize, infer, place maps; in order, in bounded memory."""
