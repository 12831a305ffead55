"""Servers and certificates that a device must not fall for; for tests and for `limpet attack`."""
