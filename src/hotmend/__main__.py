"""`python -m hotmend`."""

from hotmend.cli.main import main

if __name__ == "__main__":
    main()
