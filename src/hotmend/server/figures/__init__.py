"""Figures over the whole fleet that take long to make: kept in the database, and made anew beside answering."""
