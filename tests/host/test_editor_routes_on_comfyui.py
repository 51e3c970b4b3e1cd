"""The routes of the graph editor again, as a real ComfyUI answers them."""

from __future__ import annotations

import pytest

from tests.lite.test_editor_routes import (
    api,
    test_lists_that_are_asked_for_wrongly,
    test_logs,
    test_models_are_listed_with_where_they_lie,
    test_no_name_leads_out_of_the_users_folder,
    test_settings_are_kept,
    test_templates_come_with_their_pictures,
    test_the_page_is_the_editor,
    test_translations_and_scripts_are_answered,
    test_workflows_are_saved_listed_moved_and_deleted,
)
from tests.support.hosts import RunningHost

__all__ = [
    "api",
    "test_lists_that_are_asked_for_wrongly",
    "test_logs",
    "test_models_are_listed_with_where_they_lie",
    "test_no_name_leads_out_of_the_users_folder",
    "test_settings_are_kept",
    "test_templates_come_with_their_pictures",
    "test_the_page_is_the_editor",
    "test_translations_and_scripts_are_answered",
    "test_workflows_are_saved_listed_moved_and_deleted",
]


@pytest.fixture
def host(comfy_host: RunningHost) -> RunningHost:
    return comfy_host
