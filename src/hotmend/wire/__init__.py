"""What agents and server say to each other, and how each knows that the other said it."""
