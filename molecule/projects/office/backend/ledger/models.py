from django.db import models


class Entry(models.Model):
    cents = models.IntegerField()

    def __str__(self):
        return f"{self.cents} cents"
