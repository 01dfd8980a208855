"""The pages of suites and their runs: every address of them, each answered by the module of its topic."""

from testing import views_history, views_runs

app_name = "suites"
urlpatterns = [
    *views_runs.urlpatterns,
    *views_history.urlpatterns,
]
