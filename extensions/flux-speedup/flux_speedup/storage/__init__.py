"""Small files of ours, written whole, and what they remember."""
