"""Validated input and output of the API."""

import os
import uuid

from django.conf import settings
from rest_framework import serializers

from .models import Note


class NoteSerializer(serializers.ModelSerializer):
    """A note as JSON."""

    class Meta:
        model = Note
        fields = ("id", "text", "created")


class UploadSerializer(serializers.Serializer):
    """One small file of a type that no browser runs as a page of this site."""

    KINDS = frozenset({".gif", ".jpeg", ".jpg", ".pdf", ".png", ".txt", ".webp"})

    file = serializers.FileField()

    def validate_file(self, file):
        """Return the file under a generated name; refuse a wrong type or size."""
        kind = os.path.splitext(file.name)[1].lower()
        if kind not in self.KINDS:
            raise serializers.ValidationError(f"Only {' '.join(sorted(self.KINDS))} files.")
        if file.size > settings.UPLOAD_MAX_BYTES:
            raise serializers.ValidationError(f"At most {settings.UPLOAD_MAX_BYTES} bytes.")
        file.name = f"{uuid.uuid4().hex}{kind}"  # no part of the sender's name reaches the disk
        return file
