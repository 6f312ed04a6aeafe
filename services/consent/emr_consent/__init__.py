"""Requests, approvals, and the worker that shares snapshots."""
