"""What comes with hotmend for the servicing program: its data files, the texts of other languages, and feeds."""
