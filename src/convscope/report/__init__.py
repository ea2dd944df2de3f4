"""How pages and pictures look; the page and the model card of a run."""
