"""The yardstick of the endpoints: a bare DRF view beside the site's own URLs.

It knows the caller and the rate as the endpoints do, and writes and updates one row.
"""

from django.urls import path
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from analytics_admin.api.authentication import BearerAuthentication
from analytics_admin.api.throttling import WriteThrottle
from analytics_admin.models import Operation
from project.urls import urlpatterns as site_patterns


class BareView(APIView):
    authentication_classes = (BearerAuthentication,)
    throttle_classes = (WriteThrottle,)

    def post(self, request: Request) -> Response:
        row = Operation.objects.create(
            kind=Operation.Kind.CLEAR_SEARCH_CACHE,
            channel=Operation.Channel.API,
            actor=request.user.get_username(),
            user=request.user,
        )
        row.status = Operation.Status.DONE
        row.finished_at = timezone.now()
        row.save(update_fields=["status", "finished_at"])
        return Response({"message": "Written and updated"})


urlpatterns = [path("bare", BareView.as_view()), *site_patterns]
