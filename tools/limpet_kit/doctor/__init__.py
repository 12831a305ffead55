"""A server seen as a board would see it: what it shows, what is wrong with it, what to do."""
