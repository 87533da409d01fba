"""Ollama's API: chat, generate, embed, and what it tells of models."""
