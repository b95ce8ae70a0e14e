"""Structure of choices: repetition, co-activation, paths."""
