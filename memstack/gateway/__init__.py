"""The gateway: stable, typed verbs over whatever engine and models are configured."""

from memstack.gateway.aio import AsyncMemoryGateway
from memstack.gateway.conflicts import OnConflict
from memstack.gateway.sync import Filters, MemoryGateway

__all__ = ["AsyncMemoryGateway", "Filters", "MemoryGateway", "OnConflict"]
