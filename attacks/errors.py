"""The errors that repromark raises on purpose: each message is a sentence for the user.

Every one of them says what came, what is allowed and what to do. The command line prints the sentence and ends
with code 2; a traceback is shown only with ``--debug``.
"""


class RepromarkError(Exception):
    """Anything that repromark refuses or gives up on, with a sentence that says why."""


class InputError(RepromarkError, ValueError):
    """The caller handed over something that cannot be used as it is."""


class BudgetError(RepromarkError, RuntimeError):
    """A query budget does not allow the queries that were asked for; none of them was sent."""


class FrozenModelError(RepromarkError, RuntimeError):
    """A model that had to stay frozen was changed, or a gradient reached one of its weights."""


class EndpointError(RepromarkError, RuntimeError):
    """A service did not answer, or not with what can be used; the sentence says how many queries it has cost."""
