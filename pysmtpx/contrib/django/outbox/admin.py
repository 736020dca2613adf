"""The outbox in the admin: to be read, and to be acted on by whoever may change its messages."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Exists, OuterRef, Q

from .models import Message, Recipient, State
from .rows import cancel, retry

_MOST: Final = 10_000
"""Messages that a list has, so that it costs the same however many there are."""


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


class _Newest(Paginator):  # type: ignore[misc]
    """Counts, and shows, no more than the newest of them."""

    @cached_property
    def count(self) -> int:
        """How many there are, up to that limit."""
        return int(self.object_list.order_by()[:_MOST].count())


class _ByState(admin.SimpleListFilter):  # type: ignore[misc]
    """Messages with a recipient in a state."""

    title = "recipients"
    parameter_name = "state"

    def lookups(self, request: Any, model_admin: Any) -> Any:
        """The states."""
        return State.choices

    def queryset(self, request: Any, queryset: Any) -> Any:
        """The newest of these."""
        if self.value() not in State.values:
            return queryset
        found = Recipient.objects.using(queryset.db).filter(state=self.value()).order_by("-message_id")
        return queryset.filter(pk__in=list(found.values_list("message_id", flat=True).distinct()[:_MOST]))


class RecipientInline(_ReadOnly, admin.TabularInline):  # type: ignore[misc]
    """What became of each recipient."""

    model = Recipient
    fields = readonly_fields = ("address", "state", "reply", "stage", "changed")
    ordering = ("place",)
    extra = 0
    can_delete = False


@admin.register(Message)
class MessageAdmin(_ReadOnly, admin.ModelAdmin):  # type: ignore[misc]
    """Messages with their recipients; the content is not shown, since it may hold links that log in.

    The newest come first, and there is no other order or filter that would look at every message; a search
    does.
    """

    list_display = ("id", "subject", "sender", "priority", "queued", "due", "expires", "tries", "is_owed")
    list_filter = (_ByState,)
    sortable_by = ()
    paginator = _Newest
    search_fields = ("subject",)  # see get_search_results
    search_help_text = "Words of the subject, the sender, the key, an address or a reply"
    fields = readonly_fields = (
        *("key", "mailer", "sender", "subject", "size", "priority"),
        *("queued", "due", "expires", "tries", "is_owed"),
    )
    inlines = (RecipientInline,)
    actions = ("resend", "resend_doubtful", "cancel")
    show_full_result_count = False

    def get_queryset(self, request: Any) -> Any:
        """Without the content: a page of large messages would not fit into memory."""
        return super().get_queryset(request).defer("payload")

    def get_search_results(self, request: Any, queryset: Any, search_term: str) -> tuple[Any, bool]:
        """Messages that have every word, in themselves or in one of their recipients; each once."""
        for word in search_term.replace("\x00", "").split():
            there = Recipient.objects.using(queryset.db).filter(message=OuterRef("pk"))
            there = there.filter(Q(address__icontains=word) | Q(reply__icontains=word))
            own = Q(subject__icontains=word) | Q(sender__icontains=word) | Q(key__icontains=word)
            queryset = queryset.filter(own | Q(Exists(there)))
        return queryset, False

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
        # Of all that are chosen, no more than the list has said there are.
        numbers = sorted(queryset.order_by("-pk").values_list("pk", flat=True)[:_MOST])
        self.message_user(request, f"{sum(map(action, numbers))} recipients {what}")
