"""Adding the tokens that the files around ``tokenizer.json`` state, with their ids checked."""

import tokenizers

from mixtral_probe.errors import InputError
from mixtral_probe.tokenizer.token_settings import TokenSettings


def add_tokens(tokenizer: tokenizers.Tokenizer, settings: TokenSettings) -> str:
    """Add tokens to a tokenizer; return what changes, empty where ``tokenizer.json`` says it all.

    Raises:
        InputError: a file states another id for a token than it gets.
    """
    before = tokenizer.get_added_tokens_decoder()
    tokenizer.add_tokens(settings.tokens(tokenizer.get_added_tokens_decoder()))
    tokenizer.encode_special_tokens = settings.split_special
    _check_ids(tokenizer, settings)
    after = tokenizer.get_added_tokens_decoder()
    changed = sorted(
        (number, repr(token)) for number, token in after.items() if repr(before.get(number)) != repr(token)
    )
    return repr((changed, settings.split_special)) if changed or settings.split_special else ""


def _check_ids(tokenizer: tokenizers.Tokenizer, settings: TokenSettings) -> None:
    """Raise InputError where a file states an id that the tokenizer gives to another token, or another id."""
    for stated in (*settings.numbered, *settings.unused):
        name, found = stated.token.content, tokenizer.token_to_id(stated.token.content)
        if found not in (None, stated.id):
            raise InputError(
                f"a token must have one id, got {stated.id} for {name!r} in {stated.file}, and {found} in the "
                f"tokenizer, where added tokens follow the vocabulary without gaps; correct {stated.file} or "
                "tokenizer.json"
            )
        if found is None and (other := tokenizer.id_to_token(stated.id)) is not None:
            raise InputError(
                f"an id must be of one token, got {stated.id} for {name!r} in {stated.file} and for {other!r} in "
                f"another file of the tokenizer; correct {stated.file}"
            )
