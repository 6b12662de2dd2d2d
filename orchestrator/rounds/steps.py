"""The steps of secure rounds by name, and the fields of their messages: what gateway, nodes and key holder have in common."""

KEYS, REVEAL, SHARES, MASKED, CONFIRM, UNMASK = "keys", "reveal", "shares", "masked", "confirm", "unmask"
CONTEXT, ENCRYPTED, DECRYPT = "context", "encrypted", "decrypt"
MASKED_STEPS = (KEYS, SHARES, MASKED, CONFIRM, UNMASK)
"""Of a masked round in which all are neighbours; else REVEAL comes after KEYS."""

ENCRYPTED_STEPS = (CONTEXT, ENCRYPTED, DECRYPT)
VECTOR_STEPS = (MASKED, ENCRYPTED)
"""In which a node sends its vector, and so takes part in the sum."""

JOINING_STEPS = (KEYS, ENCRYPTED)
"""Of which the round's message is the request: nodes may still come while they are open."""

OPENING_STEPS = (UNMASK, DECRYPT)
"""After which somebody may know the sum."""

PREPARED = 0
"""Attempt of a round whose keys and shares came during the round before; others count from 1."""

NEXT = "next"
"""Field of an answer with what it brings for the next round."""

SHARES_OF = "shares_of"
"""Field of a round's message with the encrypted shares for each node, where the vectors come first and the nodes are few."""

FORESEEN = "foreseen"
"""Field of a masked vector with a signature under whom its node expects in the sum; of the request to open, that these count."""

_OF_KEY_HOLDER = (CONTEXT, DECRYPT)
ACKNOWLEDGED_STEPS = (*VECTOR_STEPS, *_OF_KEY_HOLDER)
"""Whose messages are said to have come; of the others the next message, which comes at once, says it."""
