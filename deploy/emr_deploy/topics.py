"""The topics that a hospital's relay, projector and sharer find when they start."""

from __future__ import annotations

from aiokafka.admin import NewTopic
from emr_model.ledger.events import Topics


def topics(prefix: str) -> list[NewTopic]:
    settings = Topics(prefix).settings
    return [NewTopic(name, one.partitions, 1, topic_configs=one.configuration) for name, one in settings.items()]
