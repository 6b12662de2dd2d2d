"""Invented admissions: ward-1.csv to ward-3.csv for the nodes, held-out.csv with labels, new.csv without."""

import csv

import numpy as np

WARDS = ("surgical", "medical", "geriatric")


def write(name: str, seed: int, records: int, labelled: bool = True) -> None:
    rng = np.random.default_rng(seed)
    ward = rng.choice(3, records, p=np.roll([0.6, 0.25, 0.15], seed))  # the sites differ
    age = rng.normal([58, 66, 81][seed % 3], 11, records).clip(18, 100).round()
    stay = rng.gamma(2.0, 3.5, records).clip(0, 60).round(1)
    albumin = rng.normal(36, 6, records).clip(10, 60).round(1)
    risk = 0.05 * (age - 65) + 0.16 * (stay - 7) - 0.17 * (albumin - 36) + 0.8 * (ward == 2)
    readmitted = rng.random(records) < 1 / (1 + np.exp(-1.5 * risk))
    with open(f"{name}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["age", "ward", "stay_days", "albumin", *(["readmitted"] if labelled else [])])
        for i in range(records):
            albumin_cell = "" if rng.random() < 0.01 else albumin[i]  # one in a hundred was not measured
            label = [int(readmitted[i])] if labelled else []
            writer.writerow([int(age[i]), WARDS[ward[i]], stay[i], albumin_cell, *label])


if __name__ == "__main__":
    for site in (1, 2, 3):
        write(f"ward-{site}", site, 500)
    write("held-out", 4, 400)
    write("new", 5, 20, labelled=False)
