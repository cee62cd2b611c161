"""What a completion is paid: semantic (Eq. 3), preference (Eq. 4), form and the user's own."""
