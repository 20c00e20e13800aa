"""What a GPU does: steps, whole loops and commands beside their peers, each checked before it is timed."""
