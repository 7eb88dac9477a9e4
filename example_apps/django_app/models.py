"""Tools and their loans."""

from __future__ import annotations

from django.db import models
from django.db.models import Count, F, Q
from django.urls import reverse
from django.utils import timezone


class ToolQuerySet(models.QuerySet["Tool"]):
    def with_numbers(self) -> ToolQuerySet:
        """Each with `out`, how many are lent, and `left`, how many are on the shelf."""
        out = Count("loans", filter=Q(loans__returned=None))
        return self.annotate(out=out, left=F("copies") - out)


class Tool(models.Model):
    name = models.CharField(max_length=80, unique=True)
    shelf = models.CharField(max_length=40, db_index=True)
    copies = models.PositiveSmallIntegerField(default=1)

    objects = ToolQuerySet.as_manager()

    class Meta:
        ordering = ("shelf", "name")

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("tool", args=[self.pk])


class Loan(models.Model):
    tool = models.ForeignKey(Tool, models.CASCADE, related_name="loans")
    neighbour = models.CharField(max_length=60)
    taken = models.DateTimeField(default=timezone.now)
    returned = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-taken",)
        constraints = (
            models.CheckConstraint(
                name="returned_after_taken", condition=Q(returned=None) | Q(returned__gte=F("taken"))
            ),
        )

    def __str__(self) -> str:
        return f"{self.tool} to {self.neighbour}"
