"""Everything that a JetStream account holds, to be compared before and after an attack."""

from dataclasses import dataclass

import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext


@dataclass(frozen=True)
class Inventory:
    """Streams with their settings, the messages in them, and the consumers that outlive a connection."""

    settings: dict[str, str]
    messages: dict[str, bytes]
    consumers: frozenset[str]

    def without(self, *prefixes: str) -> "Inventory":
        """All but the messages whose subjects begin so."""
        kept = {key: value for key, value in self.messages.items() if not key.startswith(prefixes)}
        return Inventory(self.settings, kept, self.consumers)


async def take_inventory(js: JetStreamContext) -> Inventory:
    """Look at all streams."""
    settings, messages, consumers = {}, {}, set()
    for info in await js.streams_info():
        name = info.config.name or ""
        settings[name] = str(sorted(info.config.as_dict().items()))
        for sequence in range(max(1, info.state.first_seq), info.state.last_seq + 1):
            try:
                message = await js.get_msg(name, sequence)
            except nats.js.errors.NotFoundError:
                continue
            headers = str(sorted((message.headers or {}).items()))
            messages[message.subject or ""] = (message.data or b"") + headers.encode()
        consumers |= {f"{name}/{each.name}" for each in await js.consumers_info(name) if each.config.durable_name}
    return Inventory(settings, messages, frozenset(consumers))


async def settle(thief: Client, fleet: Client) -> None:
    """Wait until the server has dealt with what was sent, and with what came of that."""
    for client in (thief, fleet, thief, fleet):
        await client.flush()
        await fleet.jetstream().account_info()
