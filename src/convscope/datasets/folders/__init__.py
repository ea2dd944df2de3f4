"""Users' folders of images: layout, scanning, packing."""
