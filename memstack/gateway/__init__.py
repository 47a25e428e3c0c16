"""The gateway: stable, typed verbs over whatever engine and models are configured."""

from memstack.gateway.aio import AsyncMemoryGateway
from memstack.gateway.sync import MemoryGateway

__all__ = ["AsyncMemoryGateway", "MemoryGateway"]
