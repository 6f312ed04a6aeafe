"""Where a gateway peer listens and how one speaks to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc

MAX_MESSAGE_BYTES = 100 * 1024 * 1024
"""What peers and orderers accept (`peer.maxRecvMsgSize`); gRPC's own default of 4 MiB is too small for blocks."""

KEEPALIVE_INTERVAL_SECONDS = 90
"""Peers end connections that ping more often than once in `peer.keepalive.minInterval`, 60 s."""

_CHANNEL_OPTIONS: Mapping[str, int] = {
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
    "grpc.keepalive_time_ms": KEEPALIVE_INTERVAL_SECONDS * 1000,
    "grpc.keepalive_timeout_ms": 20_000,
    # A peer that comes back is found again soon, and a channel's back-off is its own.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 2_000,
    "grpc.use_local_subchannel_pool": 1,
    # What is sent again and when is decided here, by step.
    "grpc.enable_retries": 0,
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A gateway peer.

    `address` is "host:port". `tls_ca_pem` holds the certificates that may have issued the peer's TLS certificate;
    None means a connection in the clear, for tests on one machine. `server_name` is the name expected in the peer's
    certificate where it is not the host of the address. A client certificate is needed where peers ask for one.
    """

    address: str
    tls_ca_pem: bytes | None = field(repr=False)
    server_name: str | None = None
    client_certificate_pem: bytes | None = field(default=None, repr=False)
    client_key_pem: bytes | None = field(default=None, repr=False)

    def open_channel(self, options: Mapping[str, int | str]) -> grpc.aio.Channel:
        """A channel of its own; it connects when first used. To be called within a running event loop."""
        all_options: dict[str, int | str] = {**_CHANNEL_OPTIONS, **options}
        if self.server_name:
            all_options["grpc.ssl_target_name_override"] = self.server_name
        if self.tls_ca_pem is None:
            return grpc.aio.insecure_channel(self.address, options=list(all_options.items()))
        credentials = grpc.ssl_channel_credentials(self.tls_ca_pem, self.client_key_pem, self.client_certificate_pem)
        return grpc.aio.secure_channel(self.address, credentials, options=list(all_options.items()))


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds a step may take in all, repetitions included.

    `connect` limits how long a step looks for a peer that can be reached, so that it fails early when there is none.
    """

    evaluate: float = 5.0
    endorse: float = 15.0
    submit: float = 5.0
    commit_status: float = 60.0
    connect: float = 5.0
