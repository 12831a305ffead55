class Counters:
    connects: int
    failures: dict[str, int]
    published: int
    acknowledged: int
    dropped: int
    received: int
    bytes_out: int
    bytes_in: int
    def __init__(self) -> None: ...
