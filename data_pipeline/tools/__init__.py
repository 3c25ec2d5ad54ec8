"""What an assistant may ask besides itself: text in, text out, and no model anywhere."""
