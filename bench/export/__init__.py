"""Trained encoders in the formats that other code reads: safetensors, torch.export and ONNX."""
