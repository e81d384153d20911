"""A single table, enough to show that state outlives releases."""

from django.db import models


class Note(models.Model):
    """A short text that any visitor may leave."""

    text = models.CharField(max_length=200)
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-id",)

    def __str__(self):
        return self.text
