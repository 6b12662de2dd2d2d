"""Where `SecureRandom` was before it had a module of its own name, for node/contribution.py, until that says so."""

from orchestrator.privacy.secure_random import SecureRandom

__all__ = ["SecureRandom"]
