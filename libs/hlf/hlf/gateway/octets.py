"""A second name of `bytes`, for classes that have a property of that name."""

Octets = bytes
