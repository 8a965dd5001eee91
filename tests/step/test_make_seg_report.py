"""What the page of the segmentation branch makes of metrics.json."""

from step.make_seg_report import fractions


def test_percent_becomes_fractions():
    row = {"miou": 50.0, "contour_f": 25.0, "contour_f_at_0.25": 10.0, "best_threshold": 0.5, "n": 40, "sweep": [10.0]}
    scores = {"cam": {"train": {**row, "iou": {"cat": 75.0, "n": None}}}, "seg": {"val": {"miou": 100.0}}}
    assert fractions(scores) == {
        "cam": {
            "train": {
                "miou": 0.5,
                "contour_f": 0.25,
                "contour_f_at_0.25": 0.1,
                "best_threshold": 0.5,
                "n": 40,
                "sweep": [0.1],
                "iou": {"cat": 0.75, "n": None},
            }
        },
        "seg": {"val": {"miou": 1.0}},
    }
