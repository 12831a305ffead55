"""Mounts nothing: what lies in the flash as a file is never run, and never imported."""
