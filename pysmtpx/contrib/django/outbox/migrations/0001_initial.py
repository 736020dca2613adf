"""The tables of the outbox."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):  # type: ignore[misc]
    """As ``makemigrations`` wrote it."""

    initial = True

    dependencies = ()

    operations = (
        migrations.CreateModel(
            name="Message",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("key", models.CharField(editable=False, max_length=255, null=True, unique=True)),
                ("mailer", models.CharField(default="", editable=False, max_length=255)),
                ("sender", models.TextField(editable=False)),
                ("subject", models.TextField(default="", editable=False)),
                ("payload", models.TextField(editable=False)),
                ("size", models.PositiveIntegerField(editable=False)),
                (
                    "priority",
                    models.SmallIntegerField(
                        choices=[(-1, "Low"), (0, "Normal"), (1, "High")], default=0, editable=False
                    ),
                ),
                ("queued", models.DateTimeField(editable=False)),
                ("due", models.DateTimeField(editable=False)),
                ("expires", models.DateTimeField(editable=False, null=True)),
                ("tries", models.PositiveIntegerField(default=0, editable=False)),
                ("is_owed", models.BooleanField(default=True, editable=False, verbose_name="owed")),
                ("is_told", models.BooleanField(default=True, editable=False)),
                ("owner", models.CharField(default="", editable=False, max_length=64)),
                ("until", models.FloatField(default=0.0, editable=False)),
            ],
            options={
                "verbose_name": "message",
                "ordering": ("-id",),
                "indexes": [
                    models.Index(
                        fields=["mailer", "is_owed", "priority", "due", "id"], name="pysmtpx_outbox_ready"
                    ),
                    models.Index(fields=["is_owed", "queued"], name="pysmtpx_outbox_done"),
                    models.Index(fields=["until"], name="pysmtpx_outbox_held"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Recipient",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("place", models.PositiveIntegerField(editable=False)),
                ("address", models.TextField(editable=False)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("doubt", "in doubt"),
                            ("accepted", "Accepted"),
                            ("refused", "Refused"),
                        ],
                        db_index=True,
                        default="queued",
                        editable=False,
                        max_length=8,
                    ),
                ),
                ("doubter", models.CharField(default="", editable=False, max_length=64)),
                ("reply", models.TextField(default="", editable=False)),
                ("stage", models.CharField(default="", editable=False, max_length=32)),
                ("changed", models.DateTimeField(editable=False)),
                (
                    "message",
                    models.ForeignKey(
                        editable=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="recipients",
                        to="pysmtpx_outbox.message",
                    ),
                ),
            ],
            options={
                "ordering": ("message", "place"),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("message", "place"), name="pysmtpx_outbox_recipient_place"
                    )
                ],
            },
        ),
    )
