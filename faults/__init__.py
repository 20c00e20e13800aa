"""Faults made on purpose: kills, damage, odd pictures, full disks and two at once. What whymask then does is compared
with what it does undisturbed. `python -m faults`."""
