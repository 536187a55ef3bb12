"""How like real images made ones are, in the features of a network: arrays in, figures out, nothing read or drawn."""
