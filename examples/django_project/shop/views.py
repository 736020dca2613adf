"""A view that sends, and one that sends to many."""

from django.core.mail import EmailMessage, send_mail, send_mass_mail
from django.http import HttpRequest, JsonResponse

bounced: set[str] = set()
"""Who was refused for good; a real shop would have a table of them."""


def order(request: HttpRequest) -> JsonResponse:
    """Confirm an order: the answer says what became of the mail."""
    to = request.GET.getlist("to")
    message = EmailMessage("Your order", "Thank you.\n", None, to, bcc=["archive@example.org"])
    message.send()
    result = message.send_result  # set by the backend
    return JsonResponse(
        {
            "accepted": list(result.accepted_recipients),
            "refused": {each.recipient: str(each.reply) for each in result.rejected_recipients},
            "reply": str(result.reply),
        }
    )


def news(request: HttpRequest) -> JsonResponse:
    """Send the news to a hundred customers, over all connections of the pool."""
    letters = [
        ("News", f"Dear customer {number} …\n", None, [f"customer{number}@example.com"])
        for number in range(100)
    ]
    return JsonResponse({"sent": send_mass_mail(letters)})


def hello(request: HttpRequest) -> JsonResponse:
    """The one line that every project has."""
    return JsonResponse({"sent": send_mail("Hello", "Hello.\n", None, ["ann@example.com"])})
