"""For every kind of broken build a test of its area, apart from the audit, that goes red under it (test_broken_kinds.py)."""

from typing import Dict

_LAW = "tests/privacy/test_release_law.py::test_"
_SAMPLES = "tests/privacy/test_sampling.py::test_"
_STEPS = "tests/node/test_sampled_steps.py::test_"
_SUMS = "tests/privacy/test_noisy_sum.py::test_"
_GIVEN = "tests/node/test_contribution.py::test_"
_HELD = "tests/node/test_held_out.py::test_"

_DECLARED = "noise_follows_the_multiplier_the_task_declares[6.0-training]"
_NORMAL = "what_is_released_of_an_empty_sum_is_normal_with_the_declared_deviation[training-discrete-gaussian]"
_SHARED = "no_two_releases_share_noise_and_none_is_without[{}-training]"

RED: Dict[str, str] = {
    "noise-off": _LAW + _DECLARED,
    "wrong-scale": _LAW + _DECLARED,
    "noise-less": _LAW + _DECLARED,
    "noise-tenth": _LAW + _DECLARED,
    "noise-cut": _LAW + _NORMAL,
    "noise-uniform": _LAW + _NORMAL,
    "noise-laplace": _LAW + _NORMAL,
    "noise-reused": _LAW + _SHARED.format("one node"),
    "noise-of-all-nodes": _LAW + _SHARED.format("many nodes"),
    "noise-signs": _LAW + _SHARED.format("one node"),
    "noise-broadcast": _LAW + "every_coordinate_has_noise_of_its_own[training]",
    "noise-in-pairs": _LAW + "every_coordinate_has_noise_of_its_own[training]",
    "noise-not-last": _LAW + "every_coordinate_has_noise_of_its_own[training]",
    "noise-every-second": _LAW + _SHARED.format("one node"),
    "noise-before-clipping": _STEPS + "all_samples_are_noised_alike_the_empty_one_too[2]",
    "empty-silent": _STEPS + "all_samples_are_noised_alike_the_empty_one_too[2]",
    "multiplier-ignored": _LAW + _DECLARED,
    "coarse-grid": _LAW + "the_grid_is_fine_beside_the_noise_and_costs_one_percent[training]",
    "noise-share": _LAW + "four_shares_add_up_to_the_declared_noise[training]",
    "fixed-key": _LAW + "many_generators_have_many_keys",
    "seeded": _LAW + "two_processes_that_begin_alike_draw_different_noise",
    "tally-noise-off": "tests/privacy/test_clip_tally.py::test_a_tally_is_its_count_with_the_noise_it_states",
    "tally-twice": "tests/privacy/test_clip_tally.py::test_a_tally_is_its_count_with_the_noise_it_states",
    "same-sample": _SAMPLES + "one_step_tells_nothing_of_the_next_nor_one_unit_of_its_neighbour[0.25]",
    "fixed-size": _SAMPLES + "sizes_vary_as_those_of_a_poisson_sample[0.25]",
    "epochs": _SAMPLES + "one_step_tells_nothing_of_the_next_nor_one_unit_of_its_neighbour[0.25]",
    "rate-up": _SAMPLES + "the_rate_is_exact_to_one_percent[0.25]",
    "rate-up-slightly": _SAMPLES + "the_rate_is_exact_to_one_percent[0.25]",
    "rate-of-half": _SAMPLES + "every_unit_is_as_likely_as_the_others[0.25]",
    "sample-twice": _SAMPLES + "every_unit_is_as_likely_as_the_others[0.25]",
    "sample-in-pairs": _SAMPLES + "one_step_tells_nothing_of_the_next_nor_one_unit_of_its_neighbour[0.25]",
    "real-size": _STEPS + "a_sampled_unit_counts_once_in_a_sum_over_the_expected_number",
    "clip-per-batch": _SUMS + "a_sum_is_of_its_clipped_vectors_also_when_they_are_many",
    "clip-off": _LAW + "a_long_vector_of_any_form_moves_a_sum_by_one_clip_norm[400]",
    "clip-halves": _LAW + "a_long_vector_of_any_form_moves_a_sum_by_one_clip_norm[400]",
    "clip-layers": _LAW + "a_long_vector_of_any_form_moves_a_sum_by_one_clip_norm[400]",
    "clip-numbers": _LAW + "a_long_vector_of_any_form_moves_a_sum_by_one_clip_norm[400]",
    "clip-loose": _LAW + "a_long_vector_of_any_form_moves_a_sum_by_one_clip_norm[400]",
    "round-up": "tests/privacy/test_lattice.py::test_rounding_is_unbiased[normal]",
    "record-for-patient": _STEPS + "a_patient_is_sampled_as_one",
    "statistics-noise-off": _GIVEN + "statistics_and_evaluation_are_whole_numbers_with_noise[record-node]",
    "statistics-unclipped": _GIVEN + "statistics_are_of_clipped_units",
    "statistics-records": _GIVEN + "a_patient_counts_once_in_statistics",
    "evaluation-noise-off": _LAW + "noise_follows_the_multiplier_the_task_declares[6.0-evaluation]",
    "evaluation-twice": _SUMS + "one_unit_moves_the_counts_by_at_most_the_square_root_of_two[record]",
    "evaluation-loss": _SUMS + "one_unit_moves_the_counts_by_at_most_the_square_root_of_two[record]",
    "evaluation-records": _SUMS + "a_patient_counts_as_the_mean_of_its_records",
    "held-out-trained": _HELD + "patients_are_held_out_whole",
    "held-out-by-place": _HELD + "whether_one_patient_is_held_out_depends_on_no_other",
    "mask-reuse": "tests/privacy/test_pitfalls.py::test_8_every_party_draws_a_mask_of_its_own_for_every_session",
}
