"""A typed client of the server's API, and what `hotmend fleet` asks with it."""
