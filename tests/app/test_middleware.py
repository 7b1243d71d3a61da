"""An open circuit that no view handles is a 503 that says when to come back, and no more."""

import asyncio

import pytest
from django.http import HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path

from analytics_admin.breakers import CircuitOpenError
from tests.support.breakers import trip

MIDDLEWARE = ["analytics_admin.middleware.CircuitOpenMiddleware"]


def open_circuit(request):
    trip("secret-backend").acquire()


async def aopen_circuit(request):
    raise CircuitOpenError("secret-backend", "open", 2.2)


def waiting_no_longer(request):
    raise CircuitOpenError("secret-backend", "half_open", 0.0)


def healthy(request):
    return HttpResponse("fine")


def broken(request):
    raise ZeroDivisionError


urlpatterns = [
    path("open", open_circuit),
    path("aopen", aopen_circuit),
    path("ready", waiting_no_longer),
    path("healthy", healthy),
    path("broken", broken),
]
pytestmark = pytest.mark.urls(__name__)


@override_settings(MIDDLEWARE=MIDDLEWARE)
def test_an_open_circuit_is_a_503_with_retry_after_that_names_no_breaker():
    response = Client().get("/open")
    assert response.status_code == 503
    assert response["Retry-After"] == "60"
    assert response["Cache-Control"] == "no-store"
    assert "secret-backend" not in response.content.decode() + str(response.headers)


@override_settings(MIDDLEWARE=MIDDLEWARE)
def test_the_wait_is_never_told_as_nothing():
    assert Client().get("/ready")["Retry-After"] == "1"


@override_settings(MIDDLEWARE=MIDDLEWARE)
def test_async_views_are_served_alike():
    response = asyncio.run(AsyncClient().get("/aopen"))
    assert (response.status_code, response["Retry-After"]) == (503, "3")


@override_settings(MIDDLEWARE=MIDDLEWARE)
def test_everything_else_is_left_alone():
    assert Client().get("/healthy").content == b"fine"
    with pytest.raises(ZeroDivisionError):
        Client().get("/broken")
