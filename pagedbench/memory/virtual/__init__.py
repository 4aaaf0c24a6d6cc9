"""Contiguous address space whose pages get memory when they are needed (vAttention)."""
