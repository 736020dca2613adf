"""Who is in a state is found by its message, however many others are in that state."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):  # type: ignore[misc]
    """One index less to be written, and one that does not grow under one value."""

    dependencies = (("pysmtpx_outbox", "0001_initial"),)

    operations = (
        migrations.AlterField(
            model_name="recipient",
            name="message",
            field=models.ForeignKey(
                db_index=False,
                editable=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="recipients",
                to="pysmtpx_outbox.message",
            ),
        ),
        migrations.AlterField(
            model_name="recipient",
            name="state",
            field=models.CharField(
                choices=[
                    ("queued", "Queued"),
                    ("doubt", "in doubt"),
                    ("accepted", "Accepted"),
                    ("refused", "Refused"),
                ],
                default="queued",
                editable=False,
                max_length=8,
            ),
        ),
        migrations.AddIndex(
            model_name="recipient",
            index=models.Index(fields=["state", "message"], name="pysmtpx_outbox_state"),
        ),
    )
