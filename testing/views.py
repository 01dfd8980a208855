"""The pages of suites and their runs: every address of them, each answered by the module of its topic."""

from testing import views_editor, views_history, views_packs, views_runs, views_suites

app_name = "suites"
urlpatterns = [
    *views_runs.urlpatterns,
    *views_history.urlpatterns,
    *views_packs.urlpatterns,
    *views_editor.urlpatterns,  # before suites, whose addresses take any name
    *views_suites.urlpatterns,
]
