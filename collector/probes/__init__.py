"""What the machine says of itself. Nothing lives here yet."""
