"""The story that `make demo` tells: two hospitals manage and share records over HTTP, with all refusals due."""
