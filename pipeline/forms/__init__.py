"""The book's other forms: one PDF, and a zip of its notebooks."""
