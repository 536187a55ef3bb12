"""What went in, and what would spoil a training."""

from __future__ import annotations

from knowngood.data.health import check
from knowngood.report.page import Section, render
from knowngood.study.steps import Found, Material


class DataStep:
    """Runs `knowngood check`."""

    title = "The data"

    def skipped(self, material: Material) -> str | None:
        return None

    def run(self, material: Material) -> Found:
        return check(material.records).to_dict()

    def sections(self, material: Material, found: Found) -> list[Section]:
        counts = found["counts"]
        said = ", ".join(f"{number:,} {name}" for name, number in counts.items() if number)
        rows = [
            (f["severity"], f"{f['count']:,}", f["message"], ", ".join(f["examples"][:2])) for f in found["findings"]
        ]
        sentences = [f"{found['images']:,} photographs: {said}.", *found["notes"]]
        body = render(
            "sections/study_step.html",
            sentences=sentences,
            columns=("severity", "count", "what", "for instance"),
            rows=rows,
            plain=True,
            link=None,
        )
        return [Section("data", self.title, body)]

    def advice(self, found: Found) -> list[str]:
        counts, said = found["counts"], []
        if 0 < counts["bad"] < 300:
            said.append(
                f"Collect bad images: {counts['bad']} are too few to prove an escape rate of 1 %, which takes about "
                "300 in the calibration split alone."
            )
        errors = [f for f in found["findings"] if f["severity"] == "error"]
        return said + [f"Mend the data before you believe a figure: {f['message']}" for f in errors]
