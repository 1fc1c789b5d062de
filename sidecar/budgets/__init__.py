"""Credit control: what a call may spend, and what happens when it may not."""
