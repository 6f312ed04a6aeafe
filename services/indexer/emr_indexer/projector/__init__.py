"""From the hospital's topics to rows."""
