"""Machines: taken in, checked in, reported, tagged, told what is due."""
