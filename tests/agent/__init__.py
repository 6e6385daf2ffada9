"""A machine of its own that is kept up to date: real packages, real servers, the distribution's archive."""
