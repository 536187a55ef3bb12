"""Files to decisions as one pipeline: read, decode, bring to size, infer, place maps, in order and in bounded memory."""
