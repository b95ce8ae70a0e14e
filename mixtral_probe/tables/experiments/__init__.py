"""Tables of the results of experiments."""
