"""How an inspector is trained: a frozen trunk with a kernel head, all layers fine-tuned, or both together."""
