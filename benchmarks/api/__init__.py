"""The APIs next to as little as could do the same: see ``__main__``."""
