"""The explorer: a page on which people play with a trained network and an image of theirs.

`trace` runs the network step by step, `arithmetic` says how each step computes, `payload` packs
what the page needs, and `document` writes it as one file. What the page does is in `page/`: small
ES modules without a framework, tested with Node.js, and put into the file as they are.
"""
