"""From a distribution's suites to releases of a channel: what `hotmend publish` does."""
