"""How long searches take when there are 10³, 10⁵ and 10⁶ notes, by which plans, and how much memory that needs."""
