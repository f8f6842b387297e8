"""Backbones: stock transformers models on torch, portable definitions on paddle and jittor."""
