"""The outbox in the admin: to be read, and to be acted on by whoever may change its messages."""

from __future__ import annotations

from typing import Any

from django.contrib import admin

from .models import Message, Recipient
from .rows import cancel, retry


class _ReadOnly:
    def has_add_permission(self, request: Any, obj: Any = None) -> bool:
        """Nobody: messages come by ``send_mail``."""
        return False

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:
        """Nobody, but by an action."""
        return False

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:
        """Nobody: ``purge_outbox`` forgets what is over."""
        return False


class RecipientInline(_ReadOnly, admin.TabularInline):  # type: ignore[misc]
    """What became of each recipient."""

    model = Recipient
    fields = readonly_fields = ("address", "state", "reply", "stage", "changed")
    ordering = ("place",)
    extra = 0
    can_delete = False


@admin.register(Message)
class MessageAdmin(_ReadOnly, admin.ModelAdmin):  # type: ignore[misc]
    """Messages with their recipients; the content is not shown, since it may hold links that log in."""

    list_display = ("id", "subject", "sender", "priority", "queued", "due", "expires", "tries", "is_owed")
    list_filter = ("recipients__state", "is_owed", "priority", "mailer", "queued")
    search_fields = ("subject", "sender", "key", "recipients__address", "recipients__reply")
    fields = readonly_fields = (
        *("key", "mailer", "sender", "subject", "size", "priority"),
        *("queued", "due", "expires", "tries", "is_owed"),
    )
    inlines = (RecipientInline,)
    actions = ("resend", "resend_doubtful", "cancel")
    show_full_result_count = False

    def has_act_permission(self, request: Any) -> bool:
        """Whoever may change messages may act on them."""
        return bool(request.user.has_perm(f"{self.opts.app_label}.change_message"))

    def resend(self, request: Any, queryset: Any) -> None:
        """Nobody gets it twice by this: whoever has it, or is in doubt, is left alone."""
        self._act(request, queryset, lambda each: retry(each, using=queryset.db), "queued again")

    def resend_doubtful(self, request: Any, queryset: Any) -> None:
        """For who was refused, too."""
        self._act(
            request, queryset, lambda each: retry(each, using=queryset.db, doubtful=True), "queued again"
        )

    def cancel(self, request: Any, queryset: Any) -> None:
        """Whoever is in doubt by now is left so."""
        self._act(request, queryset, lambda each: cancel(each, using=queryset.db), "cancelled")

    # Not by the decorator, which is not typed.
    resend.short_description = "Send again to who was refused, and now to who waits"  # type: ignore[attr-defined]
    resend_doubtful.short_description = (  # type: ignore[attr-defined]
        "Send again also to who is in doubt: they may get it twice"
    )
    cancel.short_description = "Cancel for who is still queued"  # type: ignore[attr-defined]
    resend.allowed_permissions = ("act",)  # type: ignore[attr-defined]
    resend_doubtful.allowed_permissions = ("act",)  # type: ignore[attr-defined]
    cancel.allowed_permissions = ("act",)  # type: ignore[attr-defined]

    def _act(self, request: Any, queryset: Any, action: Any, what: str) -> None:
        numbers = sorted(set(queryset.values_list("pk", flat=True)))
        self.message_user(request, f"{sum(map(action, numbers))} recipients {what}")
