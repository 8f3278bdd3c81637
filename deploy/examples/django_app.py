"""Django in one file.  Run: python django_app.py"""

import os

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse, JsonResponse
from django.urls import path

from gatekeeper.integrations import Verifier
from gatekeeper.integrations.django import require_user


def hello(request):
    user = request.gatekeeper.user
    return HttpResponse(f"Hello {user.id if user else 'nobody'}", content_type="text/plain")


@require_user
def me(request):
    return JsonResponse(request.gatekeeper.to_document())


urlpatterns = [path("", hello), path("dashboard", require_user(hello)), path("api/me", me)]
settings.configure(
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["gatekeeper.integrations.django.middleware"],
    GATEKEEPER=Verifier(os.environ["GATEKEEPER_ISSUER"], jwks_url=os.environ.get("GATEKEEPER_JWKS")),
    ALLOWED_HOSTS=["*"],
)

if __name__ == "__main__":
    execute_from_command_line(["", "runserver", "--noreload", f"127.0.0.1:{os.environ.get('PORT', '8000')}"])
