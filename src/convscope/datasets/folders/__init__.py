"""People's folders of images: layout, scanning, packing."""
