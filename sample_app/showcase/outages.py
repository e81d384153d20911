"""Answers while PostgreSQL or Redis is away: a sentence and 503, not a stack trace and 500."""

import functools
import logging

from django.db import InterfaceError, OperationalError
from django.http import JsonResponse
from redis.exceptions import RedisError
from rest_framework.response import Response
from rest_framework.views import exception_handler as default_exception_handler

logger = logging.getLogger(__name__)

DATABASE_ERRORS = (OperationalError, InterfaceError)
REDIS_ERRORS = (RedisError, OSError, TimeoutError)
DATABASE_AWAY = {"detail": "The database does not answer. Try again in a moment."}
RETRY_AFTER = {"Retry-After": "2"}


def exception_handler(error, context):
    """Answer 503 for Django REST framework's views if the database is away."""
    if isinstance(error, DATABASE_ERRORS):
        logger.warning("no database: %s", error)
        return Response(DATABASE_AWAY, status=503, headers=RETRY_AFTER)
    return default_exception_handler(error, context)


def needs_database(view):
    """Make a plain async view answer 503 if the database is away."""

    @functools.wraps(view)
    async def wrapped(request, *args, **kwargs):
        try:
            return await view(request, *args, **kwargs)
        except DATABASE_ERRORS as error:
            logger.warning("no database: %s", error)
            return JsonResponse(DATABASE_AWAY, status=503, headers=RETRY_AFTER)

    return wrapped
