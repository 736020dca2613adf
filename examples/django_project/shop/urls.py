"""Where the views are."""

from django.urls import path

from . import views

urlpatterns = [
    path("order", views.order),
    path("news", views.news),
    path("hello", views.hello),
]
