"""Every URL there is, but for the hot intake paths that `controlplane.asgi` answers first."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from controlplane.views import login_link

admin.autodiscover()

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/login/link/<str:uid>/<str:token>/", login_link, name="login-link"),
    path("admin/", include("messaging.views")),
    path("admin/", include("testing.views")),
    path("admin/", admin.site.urls),
    path("api/v1/", include("controlplane.api")),
    path("favicon.ico", RedirectView.as_view(url="/static/controlplane/mark.svg")),
    path("", include("controlplane.plain")),
]

handler400 = "endpoints.edge.handlers.bad_request"
handler403 = "endpoints.edge.handlers.forbidden"
handler404 = "endpoints.edge.handlers.not_found"
handler500 = "endpoints.edge.handlers.server_error"
