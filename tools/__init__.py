"""Obtaining the programs this project and its tests need."""
