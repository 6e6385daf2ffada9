"""The publisher's role: from two builds, wherever they are, to the hotpatches of an update."""
