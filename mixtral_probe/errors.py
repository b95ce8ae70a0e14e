"""The one exception for mistakes a user can make."""


class InputError(ValueError):
    """A user's input broke a rule. Its text is one sentence: the rule, what came, what to do."""
