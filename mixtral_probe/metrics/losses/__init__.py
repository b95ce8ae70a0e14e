"""Balance losses, router probabilities and the confidence made of them."""
