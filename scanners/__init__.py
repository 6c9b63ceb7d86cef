"""File-system metadata scans, their roll-ups and the questions asked of them."""
