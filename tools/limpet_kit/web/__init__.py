"""The web page: people log in, watch their devices and command them. README.md draws how."""
