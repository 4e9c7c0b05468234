from collections.abc import Awaitable, Callable
from typing import Any

class Timer:
    def __init__(
        self,
        interval: float,
        callback: Callable[[], Awaitable[Any]],
        emit_callback: Callable[..., None],
    ) -> None: ...
    def stop(self) -> None: ...
