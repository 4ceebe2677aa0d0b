"""Language models as policies: chat as tokens, several answers packed, decoding, low-rank adapters."""
