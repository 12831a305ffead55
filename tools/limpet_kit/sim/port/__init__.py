"""The board's side of a simulated board: what a port has and the desktop's MicroPython lacks.

Runs on MicroPython only. `install` puts these modules in the place of the desktop's.
"""
