"""What experiments with a model measure."""
