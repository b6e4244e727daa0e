"""The service: Alibaba Cloud Content Moderation 1.0 (product Green, version 2018-05-09)."""
