"""The built-in slices: `@digits` is short for `token.is_digit`."""

SLICES = {
    "digits": "token.is_digit",
    "words": "token.is_alpha",
    "word_starts": "token.starts_word",
    "word_parts": "token.is_alpha and not token.starts_word",
    "capitals": "token.is_title or token.is_upper",
    "punctuation": "token.is_punctuation",
    "spaces": "token.is_space",
    "line_ends": "token.is_newline",
    "first_tokens": "position in 0..3",
    "close_calls": "margin < 0.1",
    "surprises": "nll > 5",
}
"""Name and expression."""
