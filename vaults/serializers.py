"""Serializers, by the name under which a pickle of a vault that has one looks for it. Knows only where they are now."""
from .codecs.serializers import AS_STORED, Serializer, _of_module

__all__ = ['AS_STORED', 'Serializer', '_of_module']
