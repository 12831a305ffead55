"""What can go wrong on the way to the server: three classes, each with a cause code and words."""


class LimpetError(Exception):
    """`code` is a cause in capitals, `words` one sentence for a person."""

    def __init__(self, code, words):
        super().__init__(code, words)
        self.code = code
        self.words = words

    def __str__(self):
        return self.words


class Lost(LimpetError):
    """The network, the name, the server or the connection: try again soon."""


class Untrusted(LimpetError):
    """The server is not proven to be ours; nothing secret was sent."""


class Refused(LimpetError):
    """Our server refused this device's account (CONNACK 4 or 5 on a verified link)."""
