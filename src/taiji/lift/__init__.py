"""What a text could lift, what it does lift: the ceiling of a log and the surplus of texts."""
