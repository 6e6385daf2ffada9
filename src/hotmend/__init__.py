"""hotmend: change the code of running processes from two stock builds, and back."""

__version__ = "0.1.0"
