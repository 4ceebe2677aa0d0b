"""The small language world: three new tasks, eight prior skills, and the corpus that their base is pretrained on."""
