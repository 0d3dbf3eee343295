"""What a call does beside asking once: how long it waits, whether it asks again, whether it
goes on with an answer that broke, and how many do so at once."""

from .limit import Limit
from .resume import Resume
from .retry import BackoffStrategy, Retry, RetryConfig
from .timeouts import Timeouts

__all__ = ["BackoffStrategy", "Limit", "Resume", "Retry", "RetryConfig", "Timeouts"]
