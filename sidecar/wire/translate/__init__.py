"""From one dialect into another, pure: bytes in, bytes out, no I/O."""
