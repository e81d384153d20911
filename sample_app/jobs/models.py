"""Background jobs: the work, its progress, and the record that it was finished once."""

import uuid

from django.db import models
from django.utils import timezone


class Job(models.Model):
    """Work that takes `seconds`. Its row is the truth; messages and queues only hurry things on."""

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    class Runner(models.TextChoices):
        CELERY = "celery"
        IN_PROCESS = "in-process"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    seconds = models.PositiveIntegerField()
    runner = models.CharField(max_length=20, choices=Runner.choices)
    state = models.CharField(max_length=20, choices=State.choices, default=State.QUEUED)
    step = models.PositiveIntegerField(default=0)
    steps = models.PositiveIntegerField()
    deliveries = models.PositiveIntegerField(default=0)  # how often a worker received it
    attempts = models.PositiveIntegerField(
        default=0
    )  # how often a worker began it; also the fence, see work.py
    host = models.CharField(max_length=200, blank=True)
    worker = models.PositiveIntegerField(null=True)
    release = models.CharField(max_length=100, blank=True)
    created = models.DateTimeField(default=timezone.now)
    updated = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-created",)
        indexes = (models.Index(fields=("state", "updated"), name="jobs_unfinished"),)

    def __str__(self):
        return f"{self.id} ({self.state})"


class Completion(models.Model):
    """A worker finished a job. No constraint forbids a second row, so a test would find it."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="completions")
    attempt = models.PositiveIntegerField()
    host = models.CharField(max_length=200)
    worker = models.PositiveIntegerField()
    release = models.CharField(max_length=100)
    at = models.DateTimeField(default=timezone.now)

    def __str__(self):
        return f"{self.job_id} by {self.host}:{self.worker}"


class Heartbeat(models.Model):
    """The single row that the periodic task refreshes."""

    name = models.CharField(max_length=50, primary_key=True)
    beats = models.PositiveBigIntegerField(default=0)
    at = models.DateTimeField(default=timezone.now)
    host = models.CharField(max_length=200)
    worker = models.PositiveIntegerField()
    release = models.CharField(max_length=100)

    def __str__(self):
        return f"{self.name}: {self.beats}"
