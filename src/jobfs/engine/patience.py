"""How long is waited for a server where nobody says otherwise: apart from what waits, so that a help can show it."""

DEFAULT_DEADLINE_S = 30.0
"""How long a read waits for bytes that make no progress at all."""

LOCKED_DEADLINE_S = 4.0
"""The same for who waits with a lock of the kernel in his hands: whoever else wants that one sleeps uninterruptibly."""
