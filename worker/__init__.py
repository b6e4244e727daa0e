"""facepurge: delete faces from Alibaba Cloud Content Moderation, and prove what was done."""

__version__ = "0.1.0"
