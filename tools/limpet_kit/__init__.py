"""The host side of Limpet: the `limpet` command."""
