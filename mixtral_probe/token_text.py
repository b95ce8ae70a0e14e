"""How a token is written that has no text."""


def unknown_token(token_id: int) -> str:
    """Return ⟨id 8243⟩, for an id that no tokenizer at hand has a text for.

    A model's vocabulary may be larger than its tokenizer's, such as one that is padded to a multiple of 64.
    """
    return f"⟨id {token_id}⟩"
