"""Order and company of choices: repetition, co-activation, paths."""
