"""Words of the tables about token types for the three kinds of token: the one routed, the predicted and the next."""

TARGET_WORDS = {
    "input": "type of the token routed",
    "predicted": "type the model predicts",
    "next": "type that follows",
}
NO_IDS = {
    "input": "token ids were not recorded",
    "predicted": "predictions were not recorded",
    "next": "token ids were not recorded, or no token follows another",
}
"""Why no type may be known, by target."""
