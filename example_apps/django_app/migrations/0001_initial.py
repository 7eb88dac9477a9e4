"""Tools and loans, as `makemigrations` wrote them."""

from __future__ import annotations

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = ()
    operations = (
        migrations.CreateModel(
            name="Tool",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=80, unique=True)),
                ("shelf", models.CharField(db_index=True, max_length=40)),
                ("copies", models.PositiveSmallIntegerField(default=1)),
            ],
            options={"ordering": ("shelf", "name")},
        ),
        migrations.CreateModel(
            name="Loan",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("neighbour", models.CharField(max_length=60)),
                ("taken", models.DateTimeField(default=django.utils.timezone.now)),
                ("returned", models.DateTimeField(blank=True, null=True)),
                (
                    "tool",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="loans", to="library.tool"
                    ),
                ),
            ],
            options={
                "ordering": ("-taken",),
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("returned", None), ("returned__gte", models.F("taken")), _connector="OR"),
                        name="returned_after_taken",
                    )
                ],
            },
        ),
    )
