"""The files of UCI heart disease: one a hospital, without a header line."""

COLUMNS = (
    "age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak", "slope", "ca", "thal", "num",
)  # fmt: skip
"""num: 0 without disease, 1 to 4 with."""
HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")


def file_of(hospital: str) -> str:
    """The name of its file."""
    return f"processed.{hospital}.data"
