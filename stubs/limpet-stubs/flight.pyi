from .errors import LimpetError

class Message:
    topic: str
    payload: bytes
    ended: bool
    failure: LimpetError | None
    def __init__(self, topic: str, payload: bytes, flags: int) -> None: ...
    async def wait(self) -> None: ...
