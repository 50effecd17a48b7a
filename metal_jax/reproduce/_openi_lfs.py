"""Labelling functions for the urgency of the OpenI chest x-ray reports, written by hand.

They were written from the texts of train and the small hand-labelled set alone. The votes that
come with the data say normal or abnormal; these say how urgent an abnormal report is, and one
says where there is nothing to report. A report is as urgent as its gravest finding, and nearly
every report names grave findings in order to deny them, so a finding counts only where it is
affirmed and no graver one is.
"""

import functools
import re
from collections.abc import Callable, Mapping

from metal_jax.labeling import ABSTAIN, LabelingFunction, labeling_function, regex_lf

_SENTENCE_END = re.compile(
    r"[.;:](?=\s|$)|\b(?:but|however|although|otherwise|except)\b", re.IGNORECASE
)
# What follows one of these, up to the end of the sentence, is denied.
_DENIAL = re.compile(
    r"\b(?:no(?! (?:change|interval|significant))|not|without|negative for|free of|clear of"
    r"|cannot exclude|resolved|resolution of|removal of)\b.*",
    re.IGNORECASE,
)
# What stands between commas with one of these is no finding.
_REASSURANCE = re.compile(
    r"\b(?:normal|unremarkable|within limits|intact|removed|excluded)\b", re.IGNORECASE
)

# urgency -> hint -> pattern of the findings that speak for it.
_FINDINGS = {
    "chronic": {
        "granuloma": r"\bgranulom",
        "calcification": r"\bcalcifi",
        "degeneration": r"\bdegenerat|\bspondyl|\bosteophyt|\bspurring\b|\barthriti|\bendplate\b",
        "curvature": r"scolio|curvature\b|\bkyphosis\b",
        "aorta": r"\btortuo|\becta(?:tic|sia)\b|\bunfolding\b|\batheroscl",
        "hyperinflation": r"\bhyper(?:expan|inflat|aerat|lucen)|\bemphysema|\bcopd\b"
        r"|\bchronic obstructive\b",
        "cardiomegaly": r"\bcardiomegaly\b"
        r"|\b(?:heart|cardiac silhouette)\b.*\b(?:enlarge(?:d|ment)|large)\b",
        "scar": r"\bscar(?:ring)?\b",
        "hernia": r"\bhiat\w+ hernia\b|\beventration\b",
    },
    "non_urgent": {
        "nodule": r"\bnodules?\b",
        "deformity": r"\bdeformit|\bwedging\b",
        "pleural_thickening": r"\bpleural thickening\b|\bapical (?:capping|thickening)\b",
    },
    "urgent": {
        "opacity": r"\bopaci(?:ty|ties|fication)\b|\bdensit(?:y|ies)\b|\binfiltrates?\b",
        "airspace_disease": r"\bair ?space disease\b|\bconsolidation\b|\bpneumonia\b",
        "atelectasis": r"\batelecta",
        "effusion": r"\beffusion|\bpleural fluid\b|\bblunting\b",
        "congestion": r"\bedema\b|\bcongesti|\bheart failure\b|\bvascular prominence\b"
        r"|\binterstitial\b",
        "low_volume": r"\blow (?:lung )?volume|\bhypo(?:inflat|ventilat)|\bunderinflat|\bcrowding\b"
        r"|\b(?:decreased|diminished) lung volumes|\bvolumes are (?:low|decreased)\b",
        "catheter": r"\bcatheter\b|\bpicc\b|\bport\b|\bmediport\b|\btubes?\b|\btip\b",
        "cardiac_device": r"\bpacemaker\b|\bleads\b|\bdefibrillator\b|\bstents?\b|\bprosthe",
        "surgery": r"\bsternotomy\b|\bcabg\b|\bclips\b|\bpost ?operative\b|\bpost ?surgical\b"
        r"|\bthoracotomy\b|\bsurgical\b|\bsutures\b|\bbypass\b",
        "raised_diaphragm": r"\belevat(?:ed|ion)\b.*diaphragm\b",
        "mass": r"\bmass\b|adenopathy\b|\bcavitary\b|\bnodular\b|\bneoplasm\b",
        "advice": r"\brecommend|\bcorrelat|\bfollow-?up\b|\bfurther (?:evaluation|characteri)",
    },
    "emergent": {
        "fracture": r"\bfractures?\b",
        "free_air": r"\bpneumothorax\b|\bhydropneumothorax\b|\bpneumo(?:mediastinum|peritoneum)\b"
        r"|\bfree (?:intraperitoneal |subdiaphragmatic )?air\b",
        "trauma": r"\bhemothorax\b|\bhemorrhage\b|\bshrapnel\b|\bbullet\b|\bdisplaced\b",
    },
}


_ANY_FINDING = {
    urgency: re.compile("|".join(hints.values()), re.IGNORECASE)
    for urgency, hints in _FINDINGS.items()
}
# Chronic findings and those that are not urgent don't silence each other.
_GRAVITY = {"chronic": 1, "non_urgent": 1, "urgent": 2, "emergent": 3}


# Every function asks about the same report, one after the other.
@functools.lru_cache(maxsize=1)
def _read(text: str) -> tuple[str, int]:
    """Return what a report affirms and the gravity of its gravest finding, 0 if it has none."""
    kept = []
    for sentence in _SENTENCE_END.split(text[max(text.find("FINDINGS:"), 0) :]):
        parts = _DENIAL.sub("", sentence).split(",")
        kept.append(",".join(part for part in parts if not _REASSURANCE.search(part)))
    affirmed = ". ".join(kept)
    found = (_GRAVITY[urgency] for urgency, any_ in _ANY_FINDING.items() if any_.search(affirmed))
    return affirmed, max(found, default=0)


def _unless_graver(urgency: str) -> Callable[[Mapping[str, str]], str]:
    """Return a function report -> what it affirms, or nothing if it affirms a graver finding."""

    def text(report: Mapping[str, str]) -> str:
        affirmed, gravity = _read(report["text"])
        return affirmed if gravity <= _GRAVITY[urgency] else ""

    return text


@labeling_function(task="triage")
def openi_normal_no_finding(report: Mapping[str, str]) -> str | int:
    """Vote "normal" for a report that affirms none of the findings."""
    _, gravity = _read(report["text"])
    return ABSTAIN if gravity else "normal"


OPENI_LFS: tuple[LabelingFunction, ...] = (
    openi_normal_no_finding,
    *(
        regex_lf(
            f"openi_{urgency}_{hint}", "urgency", urgency, pattern, text=_unless_graver(urgency)
        )
        for urgency, hints in _FINDINGS.items()
        for hint, pattern in hints.items()
    ),
)
