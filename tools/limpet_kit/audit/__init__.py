"""What a thief finds in a board's flash, and what the finding means.

One reader for each format, one detector for each kind of secret, and one place that judges:

    obtain -> image -> layout (partitions, nvs, littlefs, mpy) -> Stream
                       detect, canary                              -> Finding
                       openness (fuses, files)                     -> Path
                       level (the board's ladder)                  -> Verdict -> report
"""

from .canary import Canary, Hit, search

__all__ = ["Canary", "Hit", "search"]
