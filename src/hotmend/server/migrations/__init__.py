"""The schema, step by step. `database.migrate` takes them."""
