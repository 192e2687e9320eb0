"""What one chapter alone draws, a module for each; what a second one wants moves up a folder."""
