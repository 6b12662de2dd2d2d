"""What takes long even on an idle machine, and is left out by `make test-fast`."""

from pathlib import Path
from typing import List, Optional

import pytest

TESTS = Path(__file__).resolve().parent

SLOW = (
    "audit",
    "doctor",
    "e2e",
    "examples",
    "faults",
    "firmware",
    "gateway/web",
    "golden",
    "hostile_gateway",
    "predict",
    "simulation",
    "analyses/test_boosted.py",
    "analyses/test_class_performance.py",
    "analyses/test_forest.py",
    "analyses/test_model_file.py",
    "analyses/test_oracles.py",
    "analyses/test_policies.py",
    "analyses/test_quantiles.py",
    "analyses/test_penalized.py",
    "analyses/test_regression.py",
    "analyses/test_shape.py",
    "analyses/test_survival.py",
    "analyses/test_svm.py",
    "boards/test_any_record.py",
    "boards/test_board_cli.py",
    "boards/test_flash.py",
    "boards/test_load_monitor.py",
    "boards/test_mlperf_runner.py",
    "boards/test_monitor.py",
    "boards/test_monitor_exports.py",
    "boards/test_preflight.py",
    "boards/test_stream.py",
    "boards/test_update.py",
    "boards/test_virtual_board.py",
    "cli/test_analyze.py",
    "cli/test_attack_cli.py",
    "cli/test_data_command.py",
    "cli/test_hang_up.py",
    "cli/test_init_owner.py",
    "cli/test_privacy_cli.py",
    "cli/test_score.py",
    "cli/test_stopping.py",
    "cli/test_streams.py",
    "cli/test_working_folder.py",
    "cli/test_wrong_arguments.py",
    "data/test_joining.py",
    "data/test_joining_sources.py",
    "data/test_postgresql.py",
    "gateway/test_broker_guard.py",
    "gateway/test_central_noise.py",
    "gateway/test_enrolment.py",
    "gateway/test_participation.py",
    "gateway/test_refused_updates.py",
    "gateway/test_scores.py",
    "gateway/test_scrub.py",
    "gateway/test_size_probe.py",
    "gateway/test_stated_figures.py",
    "gateway/test_watching.py",
    "model_export/test_bundle.py",
    "model_export/test_endings.py",
    "model_export/test_float_model.py",
    "model_export/test_keras_file.py",
    "model_export/test_known_rows.py",
    "model_export/test_losses.py",
    "model_export/test_model_bin.py",
    "model_export/test_model_cli.py",
    "model_export/test_models.py",
    "model_export/test_quantize.py",
    "model_export/test_synthetic_rows.py",
    "model_export/test_tflm.py",
    "model_export/test_training_graph.py",
    "model_export/test_worker.py",
    "node/test_accountant.py",
    "node/test_approvals.py",
    "node/test_differences.py",
    "node/test_encrypted_round.py",
    "node/test_evil_graphs.py",
    "node/test_frozen_cohort.py",
    "node/test_graph_check.py",
    "node/test_graph_process.py",
    "node/test_graph_rows.py",
    "node/test_masked_lies.py",
    "node/test_masked_round.py",
    "node/test_model_scores.py",
    "node/test_node_says_codes.py",
    "node/test_sparse_round.py",
    "node/test_waits_for_broker.py",
    "privacy/test_accounting.py",
    "privacy/test_accounting_process.py",
    "privacy/test_charges.py",
    "privacy/test_ckks.py",
    "privacy/test_ckks_attacks.py",
    "privacy/test_closeness.py",
    "privacy/test_evaluation_outlook.py",
    "privacy/test_planning.py",
    "privacy/test_release_law.py",
    "privacy/test_statement.py",
    "privacy/test_unit_bounds.py",
    "wire/test_any_message.py",
    "wire/test_hostile_bytes.py",
    "wire/test_link.py",
    "wire/test_lookout.py",
    "test_documented_commands.py",
    "test_flipped_bits.py",
    "test_required.py",
)
"""Folders and files that take long as a whole; of others single tests are marked `slow` where they stand."""

FIRST = (
    "e2e/test_node_runtimes.py",
    "faults/test_matrix.py",
    "gateway/web/test_browser.py",
    "e2e/test_fault_table.py",
    "e2e/test_demo.py",
    "e2e/test_gateway_cli.py",
    "firmware/test_fuzz.py",
    "e2e/test_analyses_with_deaths.py",
    "e2e/test_analyses.py",
    "e2e/test_own_data.py",
    "e2e/test_closed_loop.py",
    "e2e/test_federated_evaluation.py",
)
"""Begun before all others, so that no worker is left with one of them at the end."""

PLACES = frozenset(TESTS / name for name in SLOW)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> Optional[bool]:
    """Leaves out what nothing of would be run, for reading it takes seconds, too."""
    if config.getoption("markexpr") == "not slow" and collection_path in PLACES:
        return True
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    slow = {path: bool(PLACES & {path, *path.parents}) for path in {item.path for item in items}}
    for item in items:
        if slow[item.path]:
            item.add_marker("slow")
    first = {TESTS / name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: first.get(item.path, len(first)))  # the others stay in their order
