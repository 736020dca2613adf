"""What every mechanism raises by which the server proves who it is, too."""

from __future__ import annotations


class ProofError(ValueError):
    """The server broke the mechanism, or is not who it claims: nothing more may be said to it."""
