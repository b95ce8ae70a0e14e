"""Balance losses, router probabilities and the confidence computed from them."""
