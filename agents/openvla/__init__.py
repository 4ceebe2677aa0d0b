"""OpenVLA (arXiv 2406.09246): a camera's picture and an instruction in, a motion of seven tokens out."""
