"""Execute the chapters, build the site and its other forms, and check both."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # the repository
