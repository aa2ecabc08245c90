"""Stores: the engines that hold entries, behind the contract of base.py."""
