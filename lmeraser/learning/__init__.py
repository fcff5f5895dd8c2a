"""The method on tensors: backbone, prompts, tuning, feature map, partition and heads. Knows no files and no store."""
